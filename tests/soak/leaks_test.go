// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// leaks are brokers that forget to let go of something: a place in the source, and what
// stands there instead. Each must be seen in what is named: a map that finds more room in
// between may hide what is forgotten from one of two figures.
var leaks = []struct{ name, file, right, wrong, seen string }{
	{"who has left the bus", "broker/bus/peers.go", "\tdelete(p.by, name)\n\tif peer != nil {", "\tif peer != nil {", "broker objects or broker heap"},
	{"the processes of workers", "broker/workers/worker.go", "\t_ = w.process.Close()\n", "\t_, _ = unix.Dup(int(w.process.Fd()))\n\t_ = w.process.Close()\n", "broker descriptors"},
	{"a goroutine for each answer", "broker/answer.go", "\tlate := time.NewTimer(verdictTimeout)\n", "\tgo func() { select {} }()\n\tlate := time.NewTimer(verdictTimeout)\n", "broker goroutines"},
	{"the files of systemd's agents", "api/askpassword/post.go", "\t\tq.place.remove(askPrefix + q.id)\n", "", "request files"},
}

// mutant builds a broker with a leak, with the source as it is otherwise.
func mutant(t *testing.T, file, right, wrong string) (path string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, file)
	text, err := os.ReadFile(source)
	if err != nil || strings.Count(string(text), right) != 1 {
		t.Fatalf("%s has not one place with %q: %v", file, right, err)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err == nil {
		err = os.WriteFile(overlay, list, 0o600)
	}
	if err == nil {
		err = os.WriteFile(changed, []byte(strings.Replace(string(text), right, wrong, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "pamprompt-broker")
	cmd := exec.Command("go", "build", "-tags", "figures", "-overlay", overlay, "-o", path, "./cmd/pamprompt-broker")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build it: %v\n%s", err, out)
	}
	return path
}

// exchange has another broker in the place of the one that runs.
func (b *bench) exchange(t testing.TB, path string) {
	t.Helper()
	b.Kill(t)
	b.RestartAs(t, path)
}

// What looks for leaks must find them. Each takes half a minute, so the quick run
// has nothing of it.
func TestBrokersThatLeakAreNoticed(t *testing.T) {
	if _, quick := length(t); quick {
		t.Log("make soak tries them")
		return
	}
	for _, leak := range leaks {
		t.Run(leak.name, func(t *testing.T) {
			b := start(t)
			b.exchange(t, mutant(t, leak.file, leak.right, leak.wrong))
			b.remember(t, 1)
			c := &crowd{b: b, agents: b.agents(t, 2), kinds: kinds[:len(kinds)-1], atOnce: 24}
			idle := b.idle(t)
			b.patience = 3 * time.Second // for what will not go
			said := &listener{TB: t}
			seen, things := c.steadily(said, 0, true, idle)
			found := strings.Join(append(said.errors, growth(seen, int(things))...), "\n")
			if !slices.ContainsFunc(strings.Split(leak.seen, " or "), func(name string) bool { return strings.Contains(found, name) }) {
				t.Errorf("it was not noticed in the %s: %q", leak.seen, found)
			}
			saw(t, "%s: %s", leak.name, strings.SplitN(found, "\n", 2)[0])
		})
	}
}

// listener takes the errors of a test that is to find some.
type listener struct {
	testing.TB
	errors []string
}

// Errorf keeps an error.
func (l *listener) Errorf(format string, args ...any) {
	l.errors = append(l.errors, fmt.Sprintf(format, args...))
}

// Logf drops what explains one.
func (l *listener) Logf(string, ...any) {}
