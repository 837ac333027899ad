// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// opensGates lets two users open sessions of the services here, for anybody.
const opensGates = `
[[rule]]
action = "open"
service = "gate-*"
caller = "uid:60001"
verdict = "allow"
[[rule]]
action = "open"
service = "gate-*"
caller = "uid:60002"
verdict = "allow"
`

// checks is a machine whose services gate-first, gate-second and gate-third take an answer and
// then think about it, as PAM does while it delays a failure, until the test lets
// them go on.
type checks struct {
	*bench
	begun chan string // the name of each that begins to think
	fifos map[string]*os.File
}

func startChecks(t *testing.T) *checks {
	t.Helper()
	dir := t.TempDir()
	stacks, fifos := make(map[string]string), make(map[string]*os.File)
	for _, name := range []string{"first", "second", "third"} {
		fifos[name] = openFIFO(t, filepath.Join(dir, name))
		stacks["gate-"+name] = system.Every("PROBE", "[auth:ask=secret,Password: ]",
			fmt.Sprintf("[auth:run=echo %s > %s/begun; read line < %s/%s]", name, dir, dir, name), "auth:expect=right")
	}
	c := &checks{begun: make(chan string), fifos: fifos}
	begun := openFIFO(t, filepath.Join(dir, "begun"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(begun); lines.Scan(); {
			select {
			case c.begun <- lines.Text():
			case <-t.Context().Done():
			}
		}
	}()
	t.Cleanup(func() { _ = begun.Close(); <-done })
	c.bench = start(t, system.MachineOptions{Options: system.Options{Stacks: stacks}, Policy: opensGates})
	return c
}

// openFIFO makes a FIFO and opens both ends, so that nobody waits for the other.
func openFIFO(t *testing.T, path string) *os.File {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// goOn lets a service come to its decision.
func (c *checks) goOn(name string) {
	c.t.Helper()
	if _, err := c.fifos[name].WriteString("\n"); err != nil {
		c.t.Fatal(err)
	}
}

// wantBegun waits for the next service that begins to think.
func (c *checks) wantBegun(name string) {
	c.t.Helper()
	select {
	case got := <-c.begun:
		if got != name {
			c.t.Fatalf("PAM checks an answer to %s, not to %s", got, name)
		}
	case <-time.After(patience):
		c.t.Fatalf("PAM does not check the answer to %s", name)
	}
}

// open opens a session and waits for its question.
func (c *checks) open(p *person, service string) (session dbus.ObjectPath, prompt uint64) {
	c.t.Helper()
	session = p.open("gate-"+service, user, nil)
	return session, c.asked(c.t, session)
}

// answer answers, and returns where the verdict will be.
func (c *checks) answer(p *person, prompt uint64, text string) <-chan error {
	c.t.Helper()
	verdict := make(chan error, 1)
	go func() { verdict <- p.manager("AnswerPrompt", prompt, text).Err }()
	return verdict
}

// hold answers a prompt twice. One of the answers is first and the other one hears
// so at once; it returns where the verdict on the first will be.
func (c *checks) hold(p *person, prompt uint64, text string) <-chan error {
	c.t.Helper()
	verdicts := make(chan error, 2)
	for range 2 {
		go func() { verdicts <- p.manager("AnswerPrompt", prompt, text).Err }()
	}
	c.wantVerdict("the answer that was second", verdicts, api.AlreadyAnswered)
	return verdicts
}

func (c *checks) wantVerdict(what string, verdict <-chan error, want api.Code) {
	c.t.Helper()
	select {
	case err := <-verdict:
		if want == "" && err != nil {
			c.t.Errorf("%s: %v", what, err)
		} else if want != "" {
			wantCode(c.t, what, err, want)
		}
	case <-time.After(patience):
		c.t.Fatalf("%s: no verdict", what)
	}
}

// A guess is checked after the last one has failed, with all the delay that PAM
// wants, however many sessions somebody opens for it.
func TestAnswersOfOneUserAreCheckedOneAtATime(t *testing.T) {
	c := startChecks(t)
	opener, other := c.join(t, system.Opener), c.join(t, system.Other)
	one, firstPrompt := c.open(opener, "first")
	two, secondPrompt := c.open(opener, "second")
	c.wantVerdict("the first answer", c.answer(opener, firstPrompt, "wrong"), "")
	c.wantBegun("first")
	second := c.hold(opener, secondPrompt, "right")
	// Somebody else's guess is not held up, so ours could have begun by now.
	_, thirdPrompt := c.open(other, "third")
	c.wantVerdict("another user's answer", c.answer(other, thirdPrompt, "right"), "")
	c.wantBegun("third")
	select {
	case err := <-second:
		t.Fatalf("the second answer was taken while the first is checked: %v", err)
	default:
	}
	c.goOn("first")
	c.wantVerdict("the second answer", second, "")
	c.wantBegun("second")
	if state, _ := c.wait(t, one, api.StateOpen); state != api.StateFailed {
		t.Errorf("the first session is %s", state)
	}
	c.goOn("second")
	c.goOn("third")
	if state, text := c.wait(t, two, api.StateOpen); state != api.StateOpen {
		t.Errorf("the second session is %s: %s", state, text)
	}
}

// An answer that waits goes with its prompt, and lets the next one go.
func TestAnAnswerThatWaitsForItsTurnAndIsNotNeeded(t *testing.T) {
	c := startChecks(t)
	opener := c.join(t, system.Opener)
	_, firstPrompt := c.open(opener, "first")
	two, secondPrompt := c.open(opener, "second")
	three, thirdPrompt := c.open(opener, "third")
	c.wantVerdict("the first answer", c.answer(opener, firstPrompt, "right"), "")
	c.wantBegun("first")
	second := c.hold(opener, secondPrompt, "right")
	third := c.hold(opener, thirdPrompt, "right")
	if err := opener.call(two, api.SessionInterface+".Close").Err; err != nil {
		t.Fatal(err)
	}
	c.wantVerdict("the answer to a session that was closed", second, api.NoSuchPrompt)
	c.wait(t, two, api.StateClosed)
	c.goOn("first")
	c.wantVerdict("the third answer", third, "")
	c.wantBegun("third")
	c.goOn("third")
	if state, text := c.wait(t, three, api.StateOpen); state != api.StateOpen {
		t.Errorf("the third session is %s: %s", state, text)
	}
}

// A worker that dies while PAM thinks holds nobody up.
func TestAWorkerThatDiesWithAnAnswerLetsTheNextGo(t *testing.T) {
	c := startChecks(t)
	opener := c.join(t, system.Opener)
	one, firstPrompt := c.open(opener, "first")
	_, secondPrompt := c.open(opener, "second")
	c.wantVerdict("the first answer", c.answer(opener, firstPrompt, "right"), "")
	c.wantBegun("first")
	second := c.hold(opener, secondPrompt, "right")
	var leader dbus.Variant
	if err := call(c.root, one, "org.freedesktop.DBus.Properties.Get", api.SessionInterface, "Leader").Store(&leader); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(leader.Value().(uint32)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.wantVerdict("the second answer", second, "")
	c.wantBegun("second")
	c.goOn("first") // its shell is still there
	c.goOn("second")
}

// The delay that PAM wants holds up whoever has failed, also where it is root
// who answers, and never root's own sessions.
func TestRootsSessionsHaveNoGate(t *testing.T) {
	c := startChecks(t)
	one, two := open(t, c.root, "gate-first", user, nil), open(t, c.root, "gate-second", user, nil)
	for _, session := range []dbus.ObjectPath{one, two} {
		if err := call(c.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", c.asked(t, session), "right").Err; err != nil {
			t.Fatal(err)
		}
	}
	began := map[string]bool{<-c.begun: true, <-c.begun: true}
	if !began["first"] || !began["second"] {
		t.Errorf("PAM checks the answers to %v", began)
	}
	c.goOn("first")
	c.goOn("second")
	c.wait(t, one, api.StateOpen)
	c.wait(t, two, api.StateOpen)
}
