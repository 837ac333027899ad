// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bufio"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// running is a session with a command, and the other ends of its stdio.
type running struct {
	*api.Session
	a   *agent
	in  *os.File
	out *bufio.Reader
}

// shell opens a session of a user in which a shell runs a script.
func (a *agent) shell(c *api.Client, service, user, script string, o api.Options) *running {
	a.t.Helper()
	theirs, in, err := os.Pipe()
	if err != nil {
		a.t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	o.Command, o.Stdio = []string{"sh", "-c", script}, []*os.File{theirs, theirOut, theirOut}
	s, err := c.Open(within(a.t), service, user, o)
	_, _ = theirs.Close(), theirOut.Close()
	if err != nil {
		a.t.Fatal(err)
	}
	return &running{a.Session(s.ID()), a, in, bufio.NewReader(out)}
}

func (r *running) line() string {
	r.a.t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		r.a.t.Fatalf("the command said %q, and then %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// ended waits for the end of the session, and of all that has its output open.
func (r *running) ended(status, signal int32, text string) {
	r.a.t.Helper()
	r.a.wait(r.Session, api.StateClosed)
	p := r.a.properties(r.Session)
	if p.ExitStatus != status || p.ExitSignal != signal || p.ResultText != text || p.Leader != 0 || p.PAMResult != 0 {
		r.a.t.Errorf("in the end it is %+v", p)
	}
	if rest, err := io.ReadAll(r.out); err != nil || len(rest) > 0 {
		r.a.t.Errorf("the command said %q (%v)", rest, err)
	}
}

func permitSystem() system.Options {
	return system.Options{Stacks: map[string]string{"permit": rest("auth", "account", "password", "session")}}
}

// me is the one user that a session can be about without root.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func TestACommandOnEitherBus(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			s := bus.start(t, permitSystem())
			a := newAgent(t, s.System)
			r := a.shell(a.Client, "permit", me(t), "echo $$; pwd; read -r line; echo got $line; exit 7", api.Options{WorkingDirectory: "/usr"})
			a.wait(r.Session, api.StateOpen)
			pid := r.line()
			if p := a.properties(r.Session); strconv.Itoa(int(p.Leader)) != pid || p.ExitStatus != -1 || p.ExitSignal != 0 {
				t.Errorf("while process %s runs it is %+v", pid, p)
			}
			if got := r.line(); got != "/usr" {
				t.Errorf("it runs in %s", got)
			}
			_, _ = r.in.WriteString("words\n")
			if got := r.line(); got != "got words" {
				t.Errorf("it said %q", got)
			}
			r.ended(7, 0, "the command ended with status 7")
			for _, want := range []string{api.StateOpen, api.StateClosing, api.StateClosed} {
				if got := next(a, func(e api.SessionChanged) bool { return e.ID == r.ID() }).State; got != want {
					t.Errorf("it became %s, not %s", got, want)
				}
			}
		})
	}
}

func TestACommandThatASignalEnds(t *testing.T) {
	s := system.StartOnBus(t, permitSystem())
	a := newAgent(t, s.System)
	a.shell(a.Client, "permit", me(t), "kill -TERM $$", api.Options{}).ended(128+15, 15, "the command was killed by SIGTERM")
}

func TestACommandThatCannotStart(t *testing.T) {
	s := system.StartOnBus(t, permitSystem())
	a := newAgent(t, s.System)
	e := a.run("permit", me(t), api.Options{Command: []string{"/nosuch"}})
	a.want(e, result{api.CommandFailed, 0, "run /nosuch: no such file or directory"})
	if e.ExitStatus != -1 || e.Leader != 0 {
		t.Errorf("it is %+v", e.Properties)
	}
}

// waits says its own number and that of a process in the background, and both wait.
const waits = "trap '' HUP; sleep 1000 & echo $! $$; wait"

func TestTheOpenerOfACommandLeaves(t *testing.T) {
	o := permitSystem()
	o.BrokerArgs = []string{"--close-timeout", "1s"}
	s := system.StartOnBus(t, o)
	for _, test := range []struct {
		name   string
		script string
	}{
		{"and it hangs up", "sleep 1000 & echo $! $$; wait"},
		{"and it is killed, since it ignores that", waits},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, opener := newAgent(t, s.System), leaver(t, s.System)
			r := a.shell(opener, "permit", me(t), test.script, api.Options{})
			r.line()
			if err := opener.Close(); err != nil {
				t.Fatal(err)
			}
			next(a, func(e api.SessionRemoved) bool { return e.ID == r.ID() })
			if _, err := r.out.ReadByte(); err != io.EOF { // of all processes
				t.Errorf("a process of it goes on (%v)", err)
			}
		})
	}
	t.Run("and it lingers", func(t *testing.T) {
		a, opener := newAgent(t, s.System), leaver(t, s.System)
		r := a.shell(opener, "permit", me(t), "echo; read -r line; exit 5", api.Options{Linger: true})
		r.line()
		a.wait(r.Session, api.StateOpen)
		if err := opener.Close(); err != nil {
			t.Fatal(err)
		}
		left := a.open("permit", me(t), api.Options{}) // what comes after the owner has left
		a.wait(left, api.StateOpen)
		if p := a.properties(r.Session); p.State != api.StateOpen || p.ExitStatus != -1 {
			t.Errorf("it is %+v", p)
		}
		_, _ = r.in.WriteString("\n")
		r.ended(5, 0, "the command ended with status 5")
	})
}

func TestTheBrokerIsKilledWhileACommandRuns(t *testing.T) {
	s := system.StartOnBus(t, permitSystem())
	a := newAgent(t, s.System)
	runs := a.shell(a.Client, "permit", me(t), "echo $$; read -r line; exit 5", api.Options{})
	left := a.shell(a.Client, "permit", me(t), "exec 3<&0; (echo; read -r line <&3) & exit 6", api.Options{})
	pid := runs.line()
	left.line()
	a.restart(s)
	a.wait(runs.Session, api.StateOpen)
	a.wait(left.Session, api.StateOpen)
	if p := a.properties(runs.Session); strconv.Itoa(int(p.Leader)) != pid || p.ExitStatus != -1 {
		t.Errorf("while process %s runs it is %+v", pid, p)
	}
	if p := a.properties(left.Session); p.State != api.StateOpen || p.ExitStatus != 6 {
		t.Errorf("after its command it is %+v", p)
	}
	_, _ = runs.in.Close(), left.in.Close()
	runs.ended(5, 0, "the command ended with status 5")
	left.ended(6, 0, "the command ended with status 6")
}

// Root's groups are not the user's, and what pam_unix says of the user counts.
func TestACommandOfAnotherUser(t *testing.T) {
	s, _ := namespace(t, nil)
	a := newAgent(t, s.System)
	r := a.shell(a.Client, "unix", "anna", "id -un; id -gn; id -Gn; echo $HOME $USER $SHELL; pwd; exit 0", api.Options{Environment: []string{"LANG=C"}})
	a.reply(a.promptOf(r.Session).ID, password)
	var said []string
	for range 5 {
		said = append(said, r.line())
	}
	if want := []string{"anna", "users", "users", "/nonexistent anna /bin/sh", "/"}; !slices.Equal(said, want) {
		t.Errorf("it said %q, not %q", said, want)
	}
	r.ended(0, 0, "the command ended with status 0")
}
