// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// commanded is a session with a command, and the other ends of its stdio.
type commanded struct {
	t       testing.TB
	broker  *convtest.Broker
	process *convtest.Process
	peer    *convtest.Peer
	in      *os.File // standard input
	out     *os.File // standard output and error
}

// command starts a session of a user with a command on the service "test" of a
// directory.
func command(t testing.TB, dir, user string, c *worker.Command, changes ...func(*worker.Start)) *commanded {
	t.Helper()
	return under(nil).command(t, dir, user, c, changes...)
}

func (u under) command(t testing.TB, dir, user string, c *worker.Command, changes ...func(*worker.Start)) *commanded {
	t.Helper()
	s := &commanded{t: t}
	s.broker, s.process, s.peer = u.run(t, dir)
	theirs, in := ends(t)
	out, theirOut := ends(t)
	s.in, s.out = in, out
	c.Stdio = true
	changes = append([]func(*worker.Start){func(start *worker.Start) {
		start.Command, start.CloseTimeoutUsec = c, 5_000_000
	}}, changes...)
	s.peer.Start(convtest.Start("test", user, changes...), theirs, theirOut, theirOut)
	_, _ = theirs.Close(), theirOut.Close()
	return s
}

// ends returns both ends, which do not wait in Go's poller: they are passed on.
func ends(t testing.TB) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), writer.Close() })
	return reader, writer
}

func shell(text string) *worker.Command {
	return &worker.Command{Arguments: []string{"/bin/sh", "-c", text}}
}

// opened waits until the session is open, and returns the command's pid.
func (s *commanded) opened() int {
	s.t.Helper()
	for {
		m := s.peer.Next()
		if o := m.GetOpened(); o != nil {
			return int(o.GetPid())
		}
		if m.GetFailed() != nil {
			s.t.Fatal(convtest.Describe(m))
		}
	}
}

// output is all that the command has written, when the last process has closed
// its standard output.
func (s *commanded) output() string {
	s.t.Helper()
	text, err := io.ReadAll(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// line is the next line of the output.
func (s *commanded) line() string {
	s.t.Helper()
	var line []byte
	for one := make([]byte, 1); ; line = append(line, one[0]) {
		if _, err := s.out.Read(one); err != nil {
			s.t.Fatalf("the output ended after %q: %v", line, err)
		}
		if one[0] == '\n' {
			return string(line)
		}
	}
}

// ends wants the session to end, and this to be said from now on, but for phases.
func (s *commanded) ends(want ...string) {
	s.t.Helper()
	wantSaid(s.t, s.rest(), want...)
	s.process.Wait()
}

// rest is what the worker says until the session has ended.
func (s *commanded) rest() (said []string) {
	s.t.Helper()
	for {
		m := s.peer.Next()
		if m.GetEntering() == nil && m.GetResolved() == nil && m.GetOpened() == nil {
			said = append(said, convtest.Describe(m))
		}
		if m.GetClosed() != nil || m.GetFailed() != nil {
			return said
		}
	}
}

// facts runs a shell script as a command and returns what it prints, as
// NAME=value. The session ends when the script has.
func facts(t testing.TB, dir, user, script string, changes ...func(*worker.Start)) map[string]string {
	t.Helper()
	return under(nil).facts(t, dir, user, script, changes...)
}

func (u under) facts(t testing.TB, dir, user, script string, changes ...func(*worker.Start)) map[string]string {
	t.Helper()
	s := u.command(t, dir, user, shell(script), changes...)
	s.opened()
	text := s.output()
	s.ends("exited 0", "closed 0 the command ended with status 0")
	facts := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		facts[name] = value
	}
	return facts
}

func wantFacts(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, not %q", name, got[name], value)
		}
	}
}

// whoAmI prints what a process is and has, with the shell's own commands where
// another process would have something else.
const whoAmI = `echo uid=$(id -u) ; echo gid=$(id -g); echo groups=$(id -G); pwd=$(pwd); echo pwd=$pwd
while read -r name value; do case $name in Sig*|Cap*|NoNewPrivs:|Seccomp:|NSsid:|Umask:) echo ${name%:}=$value;; esac; done < /proc/$$/status
read -r pid comm state ppid pgrp session rest < /proc/$$/stat; echo leads=$(( pid == session && pid == pgrp ))
echo descriptors=$(ls /proc/self/fd)
echo owner=$(stat -c %u /proc/$$/stat)
env | sed s/^/env./
`

func TestWhatTheCommandIs(t *testing.T) {
	newEtc(t)
	signal.Ignore(unix.SIGINT, unix.SIGHUP) // as nohup and a shell's & have it
	defer signal.Reset(unix.SIGINT, unix.SIGHUP)
	dir := stack(t, "session required {probe} open:putenv=LANG=C.UTF-8 open:putenv=SHELL=/bin/dash open:leave-open=/etc/shadow")
	got := facts(t, dir, "anna", whoAmI)
	wantFacts(t, got, map[string]string{
		"uid": "60001", "gid": "60000", "groups": "60000 60010 60011", "pwd": "/", "leads": "1", "descriptors": "0 1 2 3", "owner": "60001",
		"SigBlk": "0000000000000000", "SigIgn": "0000000000000000", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
		"CapAmb": "0000000000000000", "NoNewPrivs": "0", "Umask": "0022",
		"env.HOME": "/nonexistent", "env.USER": "anna", "env.LOGNAME": "anna", "env.PATH": userPath,
		"env.LANG": "C.UTF-8", "env.SHELL": "/bin/dash", // PAM's comes first
	})
	if names := envNames(got); names != "HOME LANG LOGNAME PATH PWD SHELL USER" { // PWD is the shell's own
		t.Errorf("the environment has %s", names)
	}
	t.Run("of root", func(t *testing.T) {
		newEtc(t)
		wantFacts(t, facts(t, stack(t), "root", whoAmI), map[string]string{
			"uid": "0", "gid": "0", "groups": "0 60011", "env.HOME": "/root", "env.PATH": rootPath, "pwd": "/root",
		})
	})
	t.Run("without the phase that gives groups", func(t *testing.T) {
		newEtc(t)
		wantFacts(t, facts(t, stack(t), "anna", whoAmI, options(func(o *worker.Options) {
			o.Phases = []worker.Phase{worker.Phase_PHASE_SESSION}
		})), map[string]string{"uid": "60001", "gid": "60000", "groups": "60000 60010 60011"})
	})
}

func envNames(facts map[string]string) string {
	var names []string
	for name := range facts {
		if variable, ok := strings.CutPrefix(name, "env."); ok && variable != "_" {
			names = append(names, variable)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// What pam_group adds is kept.
func TestGroupsThatModulesAdd(t *testing.T) {
	e := newEtc(t)
	e.security("group.conf", "*;*;anna;Al0000-2400;adm\n")
	got := facts(t, stack(t, "auth required {permit}", "auth optional {group}"), "anna", whoAmI)
	groups := strings.Fields(got["groups"])
	slices.Sort(groups)
	if strings.Join(groups, " ") != "4 60000 60010 60011" {
		t.Errorf("the groups are %s", got["groups"])
	}
}
