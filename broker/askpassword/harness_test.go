// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/tests/system"
)

const (
	// postInto is set in the environment of a child that only posts.
	postInto = "PAMPROMPT_TEST_POST_INTO"
	// insideNamespace is set in that of a test with a mount namespace of its own.
	insideNamespace = "PAMPROMPT_TEST_NAMESPACE"
	// postedByChild is how many requests the child posts.
	postedByChild = 100
	// patience bounds a test that hangs. Nothing waits for it.
	patience = 30 * time.Second
	never    = time.Hour
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(postInto); dir != "" {
		postAndWait(dir)
		return
	}
	os.Exit(system.Main(m))
}

// postAndWait posts, says so, and lives on until its standard input ends. It
// removes nothing.
func postAndWait(dir string) {
	a := New(dir, slog.New(slog.DiscardHandler), nothing{})
	go a.Run(context.Background())
	for range postedByChild {
		a.Post(protocol.Request{Message: "of a child"}, func(protocol.Reply) {})
	}
	settled(a)
	fmt.Println("posted")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

type nothing struct{}

func (nothing) Asked(*Inquiry)             {}
func (nothing) Withdrawn(*Inquiry, Reason) {}

// happened is one call of Events.
type happened struct {
	name string
	end  string // empty for Asked
	q    *Inquiry
}

func (h happened) String() string { return strings.TrimSpace(h.name + " " + h.end) }

// recorder is Events, and fails the test when the two calls do not pair.
type recorder struct {
	t    testing.TB
	c    chan happened
	open map[*Inquiry]bool
	gate chan struct{} // if set, what each call waits for
}

func (r *recorder) Asked(q *Inquiry) {
	if r.open[q] {
		r.t.Errorf("%s was asked twice", q.Name)
	}
	r.open[q] = true
	r.c <- happened{q.Name, "", q}
	if r.gate != nil {
		<-r.gate
	}
}

func (r *recorder) Withdrawn(q *Inquiry, why Reason) {
	if !r.open[q] {
		r.t.Errorf("%s was withdrawn and not asked", q.Name)
	}
	delete(r.open, q)
	r.c <- happened{q.Name, why.String(), q}
}

// journal is what was logged: a slog handler's writer.
type journal struct {
	mu      sync.Mutex
	text    []string
	changed chan struct{}
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, string(b))
	close(j.changed)
	j.changed = make(chan struct{})
	return len(b), nil
}

// lines are those that hold a text.
func (j *journal) lines(text string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.text), func(line string) bool { return !strings.Contains(line, text) })
}

// await waits for a line.
func (j *journal) await(t testing.TB, text string) { t.Helper(); j.awaitNth(t, 1, text) }

func (j *journal) awaitNth(t testing.TB, n int, text string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		j.mu.Lock()
		changed := j.changed
		j.mu.Unlock()
		if len(j.lines(text)) >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("nothing about %q in the log:\n%s", text, j.lines(""))
		}
	}
}

func (j *journal) exactly(t testing.TB, n int, text string) {
	t.Helper()
	if lines := j.lines(text); len(lines) != n {
		t.Errorf("%d lines with %q, want %d:\n%s", len(lines), text, n, lines[:min(len(lines), 10)])
	}
}

// rig is an adapter that runs, and what it said.
type rig struct {
	*Adapter
	t    testing.TB
	log  *journal
	seen *recorder
	stop func() // ends Run and waits for it
}

// newRig makes an adapter that does not run yet.
func newRig(t testing.TB, dir string) *rig {
	t.Helper()
	log := &journal{changed: make(chan struct{})}
	seen := &recorder{t: t, c: make(chan happened, 1<<16), open: make(map[*Inquiry]bool)}
	a := New(dir, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), seen)
	a.again = never
	t.Cleanup(func() {
		if t.Failed() {
			lines := log.lines("")
			t.Logf("log:\n%s", strings.Join(lines[:min(len(lines), 50)], ""))
		}
	})
	return &rig{Adapter: a, t: t, log: log, seen: seen}
}

func (r *rig) start() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	r.t.Cleanup(r.stop)
	settled(r.Adapter)
	return r
}

// run runs an adapter that never tries again because of the time alone.
func run(t testing.TB, dir string) *rig {
	t.Helper()
	return newRig(t, dir).start()
}

// within runs f in Run's goroutine.
func within(a *Adapter, f func()) {
	done := make(chan struct{})
	a.call(func() {
		defer close(done)
		f()
	})
	<-done
}

// settled returns when what was posted is written, or has failed.
func settled(a *Adapter) { within(a, a.post) }

// expect waits for these calls of Events, in this order.
func (r *rig) expect(want ...string) (last *Inquiry) {
	r.t.Helper()
	for _, one := range want {
		select {
		case h := <-r.seen.c:
			if h.String() != one {
				r.t.Fatalf("heard %q, want %q", h, one)
			}
			last = h.q
		case <-time.After(patience):
			r.t.Fatalf("did not hear %q", one)
		}
	}
	return last
}

var sentinels int

// silent sees that nothing is heard of all that was done before.
func (r *rig) silent() {
	r.t.Helper()
	sentinels++
	name := fmt.Sprintf("ask.sentinel%d", sentinels)
	ask(r.t, r.dir, name, "")
	r.expect(name)
	remove(r.t, filepath.Join(r.dir, name))
	r.expect(name + " removed")
}

// text is a request file with some more lines.
func text(more string) string {
	return "[Ask]\nSocket=/run/nobody\nMessage=Password:\n" + more
}

// ask puts a request there as systemd does.
func ask(t testing.TB, dir, name, more string) {
	t.Helper()
	write(t, filepath.Join(dir, "tmp."+name), text(more))
	rename(t, filepath.Join(dir, "tmp."+name), filepath.Join(dir, name))
}

func write(t testing.TB, path, text string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(text), 0o644))
}

func rename(t testing.TB, from, to string) { t.Helper(); check(t, os.Rename(from, to)) }
func remove(t testing.TB, path string)     { t.Helper(); check(t, os.Remove(path)) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ours are the names of ours in a directory.
func ours(t testing.TB, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(all(t, dir), func(name string) bool { return !protocol.IsOurs(name) })
}

func all(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// count compares the number of our requests, each a file and a socket.
func count(t testing.TB, dir string, want int) {
	t.Helper()
	names := ours(t, dir)
	files := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, "ask.") })
	if len(files) != want || len(names) != 2*want {
		t.Errorf("%d files, and %d names in all, of %d requests: %.300q", len(files), len(names), want, names)
	}
}

// count is count at a moment when nothing is being tried.
func (r *rig) count(want int) {
	r.t.Helper()
	within(r.Adapter, func() {
		r.post()
		count(r.t, r.dir, want)
	})
}

func (r *rig) postMany(n int) (postings []*Posting) {
	for i := range n {
		postings = append(postings, r.Post(protocol.Request{Message: fmt.Sprint("question ", i)}, func(protocol.Reply) {}))
	}
	return postings
}

// inNamespace runs a test in a child with mounts of its own, and, with flags
// for unshare, more. It is true in that child.
func inNamespace(t *testing.T, flags ...string) bool {
	t.Helper()
	if os.Getenv(insideNamespace) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root: run this test as root")
	}
	args := append([]string{"--mount", "--propagation", "private"}, flags...)
	cmd := exec.Command("unshare", append(args, os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "2m")...)
	cmd.Env = append(cmd.Environ(), insideNamespace+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// tempDir has a short name, since that of a socket has to fit.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ask")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// shell runs a command.
func shell(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
