// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// answererEnv is set in the environment of an answerer.
const answererEnv = "PAMPROMPT_TEST_ANSWERER"

// answerer is a program that is killed with its answer under way. Its arguments are the
// address of the bus, a prompt, what it writes into a pipe, and how:
//
//	half   it never closes the pipe, and says "sent" when all of that was read
//	whole  it closes the pipe, calls, and says "sent" at once
//	late   as half, with the connection to the bus made before the pipe
func runAnswerer(args []string) error {
	number, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	text, how := args[2], args[3]
	var conn *dbus.Conn
	if how == "late" {
		if conn, err = dbus.Connect(args[0]); err != nil {
			return err
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if conn == nil {
		if conn, err = dbus.Connect(args[0]); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if how == "whole" {
		if err := w.Close(); err != nil {
			return err
		}
	}
	call := conn.Object(api.BusName, api.RootPath).Go(api.ManagerInterface+".AnswerPromptFD", 0, nil, number, dbus.UnixFD(r.Fd()))
	for again := time.NewTicker(time.Millisecond); how != "whole"; <-again.C {
		left, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
	}
	fmt.Println("sent")
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
	return (<-call.Done).Err
}

// answerer starts one, and returns when it says that it has sent its answer.
func (b *bench) answerer(prompt uint64, text, how string) (kill func()) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", b.Address, fmt.Sprint(prompt), text, how)
	cmd.Env = append(os.Environ(), answererEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	kill = func() { _, _, _ = cmd.Process.Kill(), cmd.Wait(), in.Close() }
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		kill()
		b.t.Fatalf("the answerer says %q, %v", line, err)
	}
	return kill
}

// A program is killed with its answer under way. Half of an answer is none; a whole one is taken
// once or not at all. The next question is not answered by it.
func TestAnAnswererIsKilled(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"two": stack(t, "probe [auth:ask=secret,One: ] auth:export=ONE [auth:ask=secret,Two: ] auth:export=TWO")})
	victim := b.agent(false)
	taken, rounds := 0, 6
	for _, how := range []string{"half", "late", "whole"} {
		for range rounds {
			s := victim.open("two", api.Options{Agent: true})
			one := victim.prompt(s)
			b.answerer(one.ID, "killed", how)()
			if how != "whole" {
				b.dropped(one.ID)
			}
			got := "right"
			if err := victim.give(one.ID, got); errors.Is(err, api.AlreadyAnswered) && how == "whole" {
				got, taken = "killed", taken+1
			} else if err != nil {
				t.Errorf("%s: after an answerer was killed: %v", how, err)
			}
			victim.reply(victim.prompt(s).ID, "second")
			victim.wait(s, api.StateOpen)
			if p := victim.properties(s); !slices.Equal(slices.Sorted(slices.Values(p.Environment)), []string{"ONE=" + got, "TWO=second"}) {
				t.Errorf("%s: the module got %q, not %s", how, p.Environment, got)
			}
			victim.close(s)
		}
	}
	saw(t, "programs that were killed with an answer under way: of %d halves none was taken, of %d whole ones %d", 2*rounds, rounds, taken)
	victim.leave()
	b.unharmed()
}

// dropped waits for the one line about an answer that may be half of one.
func (b *bench) dropped(prompt uint64) {
	b.t.Helper()
	about := fmt.Sprintf("prompt=%d ", prompt)
	b.AwaitLog(b.t, func(string) bool { return len(b.complaints(about)) > 0 })
	if lines := b.complaints(about); len(lines) != 1 || !strings.Contains(lines[0], "half") {
		b.t.Errorf("the log complains of prompt %d with %q", prompt, lines)
	}
}
