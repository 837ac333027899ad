// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

// client runs the client, and returns all that it printed.
func (b *bench) run(stdin string, args ...string) (printed string, code int) {
	b.t.Helper()
	cmd := exec.CommandContext(within(b.t), b.Programs.Client, args...)
	cmd.Env = b.Environment()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		b.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What goes wrong with an answer is told without it, by the broker, the client
// and the log.
func TestErrorsDoNotRepeatAnAnswer(t *testing.T) {
	k := newSecret()
	b := start(t, map[string]string{"one": asks(t, k)})
	b.listen()
	b.open("one", "anna")
	p := next[api.Prompt](b).ID
	number := fmt.Sprint(p)
	for _, c := range []struct {
		name, stdin string
		args        []string
		code        int
	}{
		{"for a prompt there is not", k.text, []string{"answer", "1"}, 5},
		{"that no module can take", k.text + "\x00" + k.text, []string{"answer", number}, 2},
		{"that is too long", strings.Repeat(k.text, 2049), []string{"answer", number}, 1},
		{"among the arguments", "", []string{"answer", number, k.text}, 2},
		{"with --json, that is right", k.text + "\n", []string{"answer", number, "--json"}, 0},
		{"that comes too late", k.text, []string{"answer", number, "--json"}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			printed, code := b.run(c.stdin, c.args...)
			if code != c.code {
				t.Errorf("the exit code is %d: %s", code, printed)
			}
			k.wantNotIn(t, "what is printed", printed)
		})
	}
	for _, args := range [][]string{{"list", "--json"}, {"prompts", "--json"}} {
		printed, code := b.run("", args...)
		if code != 0 {
			t.Errorf("%v: %d, %s", args, code, printed)
		}
		k.wantNotIn(t, fmt.Sprint(args), printed)
	}
	// As text it is in the message, and errors may not repeat that either.
	for _, text := range []string{k.text + "\x00", k.text + "\xff", k.text, strings.Repeat(k.text, 2049)} {
		if err := b.answerAsText(p, text); err != nil {
			k.wantNotIn(t, "the error", err.Error())
		}
	}
	k.wantNotIn(t, "the log", b.Log())
}

// With --json the watcher sees a session open, with what PAM says of it.
func TestEventsDoNotHoldAnAnswer(t *testing.T) {
	k := newSecret()
	b := start(t, map[string]string{"one": asks(t, k)})
	cmd := exec.CommandContext(within(t), b.Programs.Client, "watch", "--json")
	cmd.Env = b.Environment()
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.listen()
	s := b.open("one", "anna")
	if err := b.answer(next[api.Prompt](b).ID, k.text); err != nil {
		t.Fatal(err)
	}
	b.wantOpen(s)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	k.wantNotIn(t, "what the watcher prints", printed.String())
}

// SIGQUIT is how a Go program is made to say what it is doing when it dies, as
// it does of a panic that nobody recovers: all stacks, with the arguments of
// functions, and registers.
func TestTheReportOfABrokerThatDiesHasNoAnswer(t *testing.T) {
	k := newSecret()
	b := start(t, map[string]string{"one": asks(t, k), "wait": asks(t, newSecret())})
	b.listen()
	s := b.open("one", "anna")
	if err := b.answer(next[api.Prompt](b).ID, k.text); err != nil {
		t.Fatal(err)
	}
	b.wantOpen(s)
	b.Signal(t, syscall.SIGQUIT)
	b.Ended(t)
	log := b.Log()
	if !strings.Contains(log, "SIGQUIT: quit") || !strings.Contains(log, "goroutine ") {
		t.Errorf("it has not said what it was doing:\n%s", log)
	}
	k.wantNotIn(t, "the report", log)
	b.Restart(t)
	b.wantOpen(s) // the worker has come back, and closes the session when the test is over
}
