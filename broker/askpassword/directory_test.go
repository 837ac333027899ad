// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// works sees that both directions work in a directory where so many of ours are.
func (r *rig) works(posted int) {
	r.t.Helper()
	p := r.postMany(1)[0]
	settled(r.Adapter)
	count(r.t, r.dir, posted+1)
	p.Close()
	count(r.t, r.dir, posted)
	r.silent()
}

func TestADirectoryThatIsMissingIsMade(t *testing.T) {
	r := newRig(t, filepath.Join(tempDir(t), "a", "b", "ask-password"))
	r.postMany(3)
	r.start()
	count(t, r.dir, 3)
	r.works(3)
	st, err := os.Stat(r.dir)
	check(t, err)
	if st.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %v", st.Mode())
	}
	r.log.exactly(t, 0, "level=WARN")
}

func TestADirectoryThatCannotBeMadeIsWaitedFor(t *testing.T) {
	top := tempDir(t)
	obstacle := filepath.Join(top, "a")
	write(t, obstacle, "in the way")
	r := run(t, filepath.Join(obstacle, "b", "ask-password"))
	r.postMany(3)
	settled(r.Adapter)
	r.log.exactly(t, 1, "cannot be reached")
	remove(t, obstacle)
	r.awaitHere()
	ask(t, r.dir, "ask.a", "")
	r.expect("ask.a")
	settled(r.Adapter)
	count(t, r.dir, 3)
	r.works(3)
	within(r.Adapter, r.retry)
	r.log.exactly(t, 1, "can be reached again")
	r.log.exactly(t, 1, "level=WARN")
}

// awaitHere waits until the adapter holds the directory that the path leads to.
func (r *rig) awaitHere() {
	for here := false; !here; {
		within(r.Adapter, func() { here = r.here() })
	}
}

func TestADirectoryThatGoesIsLeftAndMadeAgain(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(t *testing.T, top, dir string)
	}{
		{"it is removed", func(t *testing.T, _, dir string) { check(t, os.RemoveAll(dir)) }},
		{"it is removed with its parent", func(t *testing.T, top, dir string) {
			check(t, os.Rename(filepath.Dir(dir), filepath.Join(top, "elsewhere")))
			check(t, os.RemoveAll(filepath.Join(top, "elsewhere")))
		}},
		{"it is renamed away", func(t *testing.T, top, dir string) { rename(t, dir, filepath.Join(top, "elsewhere")) }},
		{"its parent is renamed away", func(t *testing.T, top, dir string) { rename(t, filepath.Dir(dir), filepath.Join(top, "elsewhere")) }},
		{"its grandparent is renamed away", func(t *testing.T, top, dir string) {
			rename(t, filepath.Join(top, "a"), filepath.Join(top, "elsewhere"))
		}},
		{"another takes its place", func(t *testing.T, top, dir string) {
			other := filepath.Join(top, "other")
			check(t, os.Mkdir(other, 0o755))
			check(t, unix.Renameat2(unix.AT_FDCWD, other, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE))
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			top := tempDir(t)
			r := newRig(t, filepath.Join(top, "a", "b", "ask-password"))
			r.postMany(5)
			r.start()
			for range 3 { // what is watched must be so again afterwards
				ask(t, r.dir, "ask.a", "")
				ask(t, r.dir, "ask.b", "")
				r.expect("ask.a", "ask.b")
				old, err := os.Open(r.dir)
				check(t, err)
				c.do(t, top, r.dir)
				// In one order or the other when the files are removed too.
				a, b := r.hear(), r.hear()
				if a.end != "removed" || b.end != "removed" || a.name == b.name {
					t.Fatalf("heard %v and %v", a, b)
				}
				r.awaitHere()
				r.silent() // so it has settled
				settled(r.Adapter)
				count(t, r.dir, 5)
				left, err := old.Readdirnames(-1)
				if err == nil && len(left) > 0 && protocolNames(left) > 0 {
					t.Errorf("left in the old one: %q", left)
				}
				_ = old.Close()
				r.works(5)
				_ = os.RemoveAll(filepath.Join(top, "elsewhere"))
				_ = os.RemoveAll(filepath.Join(top, "other"))
			}
			r.log.exactly(t, 0, "level=WARN")
		})
	}
}

func protocolNames(names []string) (n int) {
	for _, name := range names {
		if protocol.IsOurs(name) {
			n++
		}
	}
	return n
}

func TestADirectoryThatIsAMountGoesWithIt(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := filepath.Join(tempDir(t), "ask-password")
	r := run(t, dir)
	r.postMany(5)
	settled(r.Adapter)
	ask(t, dir, "ask.below", "")
	r.expect("ask.below")
	shell(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	r.expect("ask.below removed")
	r.works(5)
	ask(t, dir, "ask.above", "")
	r.expect("ask.above")
	shell(t, "umount", "--lazy", dir)
	r.expect("ask.above removed", "ask.below")
	r.works(5)
	r.log.exactly(t, 0, "level=WARN")
}
