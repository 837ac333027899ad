// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/system"
)

// helperProgram builds pamprompt-conv, once.
var helperProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pamprompt-conv-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pamprompt-conv")
	cmd := exec.Command("go", "build", "-o", path, "github.com/pamprompt/pamprompt/cmd/pamprompt-conv")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pamprompt-conv: %w\n%s", err, out)
	}
	return path, nil
})

// real has the helper that is shipped talk to a broker.
func (s *stage) real(address string) {
	s.t.Helper()
	path, err := helperProgram()
	if err != nil {
		s.t.Fatal(err)
	}
	s.helper(fmt.Sprintf("DBUS_SYSTEM_BUS_ADDRESS='%s' exec %s \"$@\"", address, path))
}

// agent is told of everything.
type agent struct {
	*api.Client
	t      *testing.T
	events <-chan api.Event
}

func newAgent(t *testing.T, s *system.System) *agent {
	t.Helper()
	c := s.Client(t)
	w, err := c.Watch(t.Context(), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &agent{c, t, w.Events()}
}

// in is the agent for another test.
func (a *agent) in(t *testing.T) *agent { return &agent{a.Client, t, a.events} }

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tooLong)
	t.Cleanup(cancel)
	return ctx
}

// next is the next event of a kind; others are dropped.
func next[E api.Event](a *agent) E {
	a.t.Helper()
	late := time.After(tooLong)
	for {
		select {
		case event, ok := <-a.events:
			if !ok {
				a.t.Fatal("the watcher has ended")
			}
			if e, ok := event.(E); ok {
				return e
			}
		case <-late:
			var e E
			a.t.Fatalf("no %T has come", e)
		}
	}
}

func (a *agent) reply(p api.Prompt, text string) {
	a.t.Helper()
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Wipe()
	if err := a.Answer(within(a.t), p.ID, answer); err != nil {
		a.t.Errorf("answer prompt %d: %v", p.ID, err)
	}
}

// running is the program while it runs.
type running struct {
	s    *stage
	cmd  *exec.Cmd
	keys io.WriteCloser
	out  *bufio.Reader
	err  bytes.Buffer
}

func (s *stage) start(user string, words ...string) *running {
	s.t.Helper()
	r := &running{s: s, cmd: s.command(user, words...)}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	r.out, r.cmd.Stderr = bufio.NewReader(stdout), &r.err
	if r.keys, err = r.cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// says waits for the end and checks all that it said.
func (r *running) says(lines ...string) {
	r.s.t.Helper()
	late := time.AfterFunc(tooLong, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	out, _ := io.ReadAll(r.out)
	if err := r.cmd.Wait(); err != nil || r.err.Len() > 0 && len(r.s.runner) == 0 {
		r.s.t.Errorf("%v\n%s", err, &r.err)
	}
	if len(lines) > 0 || len(out) > 0 {
		want(r.s.t, string(out), lines...)
	}
}

// in is the stage for another test.
func (s *stage) in(t *testing.T) *stage {
	t.Helper()
	return &stage{t: t, b: s.b, stacks: t.TempDir(), runner: s.runner, env: s.env}
}

func (a *agent) sessions() map[uint64]bool {
	a.t.Helper()
	list, err := a.Sessions(within(a.t))
	if err != nil {
		a.t.Fatal(err)
	}
	there := map[uint64]bool{}
	for _, s := range list {
		there[s.ID] = true
	}
	return there
}

// monotonic is the clock that Expires is of.
func monotonic(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// await reads until the program says a line.
func (r *running) await(line string) {
	r.s.t.Helper()
	for {
		said, err := r.out.ReadString('\n')
		if strings.TrimSpace(said) == line {
			return
		}
		if err != nil {
			r.s.t.Fatalf("it does not say %q: %v\n%s", line, err, &r.err)
		}
	}
}

// goOn ends a pause.
func (r *running) goOn() { _, _ = r.keys.Write([]byte("\n")) }
