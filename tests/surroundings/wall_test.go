// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// The clock that a machine cannot have of its own for a process is that of the day. So broker and
// worker are built here with a time.Now whose wall clock goes days ahead and back at each reading,
// and whose monotonic clock is as it was.
const (
	reading = "\tsec, nsec, mono := runtimeNow()\n"
	wild    = `
var wildReadings int64

// wildly is read by several goroutines, to which it need not be the same.
func wildly(sec int64) int64 {
	wildReadings++
	if wildReadings%2 == 0 {
		return sec + 86400*(1+wildReadings%7)
	}
	return sec - 86400*(1+wildReadings%5)
}
`
)

// wildPrograms builds them.
func wildPrograms(t *testing.T) (broker, worker string) {
	t.Helper()
	root, err := exec.CommandContext(within(t), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), reading) != 1 {
		t.Fatalf("time.Now of this Go reads the clock in another way than %q: adapt this test", reading)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "time.go")
	text = []byte(strings.Replace(string(text), reading, reading+"\tsec = wildly(sec)\n", 1) + wild)
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, cgo := range map[string]string{"broker": "0", "worker": "1"} {
		cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, name),
			"github.com/pamprompt/pamprompt/cmd/pamprompt-"+name)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED="+cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build the %s: %v\n%s", name, err, out)
		}
	}
	return filepath.Join(dir, "broker"), filepath.Join(dir, "worker")
}

// No deadline depends on what time of the day it is: somebody may set the clock.
func TestTheClockOfTheDayIsNoMatter(t *testing.T) {
	broker, worker := wildPrograms(t)
	all, requests := stacks(t), t.TempDir()
	all["hangs"] = "auth required " + modules.Probe(t) + " auth:info=here auth:hang\n" + all["permit"]
	b := on(t, system.StartOnBus(t, system.Options{Stacks: all,
		Through:    []string{"/bin/sh", "-c", `shift; exec ` + broker + ` "$@"`, "sh"}, // not what Build has built
		BrokerArgs: []string{"--worker", worker, "--ask-password=" + requests, "--close-timeout=2s"}}))
	goesOn := b.bystander()
	stays := b.open(b.Client(t), "permit", api.Options{})
	ended := b.open(b.here, "permit", api.Options{})
	b.wait(ended, api.StateOpen)
	b.close(ended)

	long := b.open(b.here, "ask", api.Options{Linger: true, Timeout: time.Hour})
	waits := b.promptOf(long)
	if left, ok := waits.Remaining(); !ok || left < 59*time.Minute || left > time.Hour {
		t.Errorf("a prompt that may wait an hour expires in %v", left)
	}
	took := map[string]time.Duration{
		"a prompt that may wait a second":          b.expiry(b.promptOf(b.open(b.here, "ask", api.Options{Timeout: time.Second})).ID),
		"a question of a conversation":             b.expiry(b.question(time.Second)),
		"a module that has two seconds from Close": b.hang(),
	}
	for what, took := range took {
		if took < 800*time.Millisecond || took > 20*time.Second {
			t.Errorf("%s ended after %v", what, took)
		}
	}
	b.slowly(waits.ID)
	b.wait(long, api.StateOpen)
	b.close(long)
	if _, err := b.here.Session(ended.ID()).Properties(within(t)); err != nil {
		t.Errorf("a session that has ended is not known for a minute: %v", err)
	}
	b.Kill(t) // whose absence workers bear for five minutes
	b.Restart(t)
	b.come()
	b.back(stays)
	next(b, func(p api.Prompt) bool { return p.Reason == "bystander" })
	b.wait(stays, api.StateOpen)
	b.close(stays)
	goesOn()
	saw(t, "with a clock of the day that goes days ahead and back at each reading: %v", took)
}

// question asks in a conversation, and returns the number of the prompt.
func (b *bench) question(timeout time.Duration) uint64 {
	b.t.Helper()
	c, err := b.here.OpenConversation(within(b.t), "ftp", "anna", api.ConversationOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	number, response, err := c.Ask(within(b.t), api.Question{Style: api.StyleSecret, Message: "Password: ", Timeout: timeout})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = response.Close() })
	return number
}

// expiry is how long a prompt waits, which must expire.
func (b *bench) expiry(prompt uint64) time.Duration {
	b.t.Helper()
	began := time.Now()
	if closed := next(b, func(c api.PromptClosed) bool { return c.ID == prompt }); closed.Outcome != api.OutcomeExpired {
		b.t.Errorf("prompt %d ended with %s", prompt, closed.Outcome)
	}
	return time.Since(began)
}

// hang is how long a session needs to end whose module hangs.
func (b *bench) hang() time.Duration {
	b.t.Helper()
	s := b.open(b.here, "hangs", api.Options{})
	next(b, func(m api.Message) bool { return m.Session == s.ID() })
	began := time.Now()
	if err := s.Close(within(b.t)); err != nil {
		b.t.Fatal(err)
	}
	if err := s.Wait(within(b.t), api.StateClosed); !errors.Is(err, api.WorkerFailed) {
		b.t.Errorf("a module that hangs: %v", err)
	}
	return time.Since(began)
}

// slowly answers from a pipe that ends when the broker has begun to read it.
func (b *bench) slowly(prompt uint64) {
	b.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	call := b.Conn(b.t).Object(api.BusName, api.RootPath).Go(api.ManagerInterface+".AnswerPromptFD", 0, nil, prompt, dbus.UnixFD(r.Fd()))
	for _, part := range strings.SplitAfter(answer, " ") {
		if _, err := w.WriteString(part); err != nil {
			b.t.Error(err)
		}
		b.drained(r)
	}
	_, _ = w.Close(), r.Close()
	if err := (<-call.Done).Err; err != nil {
		b.t.Errorf("an answer from a pipe: %v", err)
	}
}

// drained waits until what is in a pipe was read.
func (b *bench) drained(r *os.File) {
	b.t.Helper()
	for late := time.Now().Add(patience); ; {
		left, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		if err != nil || time.Now().After(late) {
			b.t.Fatalf("%d bytes are left in the pipe, %v", left, err)
		}
		if left == 0 {
			return
		}
		if _, err := b.here.Sessions(within(b.t)); err != nil { // the broker's turn
			b.t.Fatal(err)
		}
	}
}
