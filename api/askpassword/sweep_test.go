// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// child is a process that has posted, and the random part of its names.
func child(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(cmd.Environ(), postInto+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	_, err = cmd.StdinPipe() // ends with us
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	return cmd, strings.TrimPrefix(strings.TrimSpace(line), askPrefix)
}

func TestExactlyWhatADeadProcessLeftIsSwept(t *testing.T) {
	needRoot(t)
	p, log := place(t)
	dir := p.Path()
	own := postIn(t, p, log)
	_, alive := child(t, dir)
	killed, dead := child(t, dir)
	check(t, killed.Process.Kill())
	_ = killed.Wait()
	elsewhere := filepath.Join(folder(t), "target")
	check(t, os.WriteFile(elsewhere, nil, 0o600))

	keep := []string{own.Name(), sockPrefix + own.id, askPrefix + alive, sockPrefix + alive}
	for _, name := range []string{"ask.foreign", "sck.foreign", "tmp.foreign", "x", "ask.pamprompt", "xask.pamprompt-0", "ask.Pamprompt-0"} {
		write(t, dir, name, "")
		keep = append(keep, name)
	}
	for _, name := range []string{"ask.pamprompt-another", "tmp.pamprompt-another"} {
		check(t, os.Chown(write(t, dir, name, ""), 12345, 12345))
		keep = append(keep, name)
	}
	for _, name := range []string{"ask.pamprompt-link", "sck.pamprompt-link", "tmp.pamprompt-link"} {
		check(t, os.Symlink(elsewhere, filepath.Join(dir, name)))
		keep = append(keep, name)
	}
	// One that leads to a socket that somebody listens to.
	check(t, os.Symlink(own.path(), filepath.Join(dir, "sck.pamprompt-other")))
	write(t, dir, "ask.pamprompt-other", "")
	check(t, os.Mkdir(filepath.Join(dir, "ask.pamprompt-folder"), 0o755))
	check(t, unix.Mkfifo(filepath.Join(dir, "ask.pamprompt-fifo"), 0o600))
	keep = append(keep, "sck.pamprompt-other", "ask.pamprompt-other", "ask.pamprompt-folder", "ask.pamprompt-fifo")

	gone := []string{askPrefix + dead, sockPrefix + dead}
	for _, name := range []string{"tmp.pamprompt-half", "ask.pamprompt-nosocket", "ask.pamprompt-"} {
		write(t, dir, name, "")
		gone = append(gone, name)
	}
	check(t, unix.Mknod(filepath.Join(dir, "sck.pamprompt-alone"), unix.S_IFSOCK|0o600, 0))
	gone = append(gone, "sck.pamprompt-alone")

	before := descriptors(t)
	for range 2 {
		check(t, p.Sweep())
	}
	slices.Sort(keep)
	if left := names(t, dir); !slices.Equal(left, keep) {
		t.Errorf("left is %q\nwant %q", left, keep)
	}
	if descriptors(t) != before {
		t.Error("something is still open")
	}
	if n := strings.Count(log.String(), "was left behind was removed"); n != len(gone) || strings.Contains(log.String(), "WARN") {
		t.Errorf("the log says %q", log)
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Error(err)
	}
	own.goesOn()
}

func TestASweepOfWhatHasGone(t *testing.T) {
	p, _ := place(t)
	check(t, os.Remove(p.Path()))
	if err := p.Sweep(); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestASweepWhileOthersPost(t *testing.T) {
	p, log := place(t)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for range 300 {
			q, err := p.Post(Request{Message: "?"}, func(Reply) {})
			if err != nil {
				t.Error(err)
				return
			}
			for _, name := range []string{q.Name(), sockPrefix + q.id} {
				if _, err := os.Lstat(filepath.Join(p.Path(), name)); err != nil {
					t.Errorf("what lives was swept: %v", err)
				}
			}
			q.Close()
		}
	}()
	for done := false; !done; {
		select {
		case <-stopped:
			done = true
		default:
		}
		check(t, p.Sweep())
	}
	if log.String() != "" {
		t.Errorf("the log says %q", log)
	}
}
