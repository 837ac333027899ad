// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// The broker, which has no capabilities under systemd either, may lock no memory. What comes as
// text is refused, a descriptor is passed on, and what a password agent sends waits.
func TestMemoryThatTheBrokerCanLockRunsOut(t *testing.T) {
	needRoot(t)
	requests := t.TempDir()
	b := on(t, system.StartOnBus(t, system.Options{Stacks: stacks(t), BrokerArgs: []string{"--ask-password=" + requests},
		Through: []string{"setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"}}))
	goesOn, journal := b.bystander(), b.journal()
	texts := b.open(b.here, "ask", api.Options{AskPassword: "no"})
	files := b.open(b.here, "ask", api.Options{Reason: "by file"})
	text, file := b.promptOf(texts), b.promptOf(files)

	var was unix.Rlimit
	err := unix.Prlimit(b.BrokerPID(), unix.RLIMIT_MEMLOCK, nil, &was)
	if err == nil {
		err = unix.Prlimit(b.BrokerPID(), unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: was.Max}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	conn := b.Conn(t)
	for range 3 {
		err := conn.Object(api.BusName, api.RootPath).Call(api.ManagerInterface+".AnswerPrompt", 0, text.ID, answer).Err
		if err == nil || !strings.Contains(err.Error(), "can lock no memory") {
			t.Errorf("an answer as text: %v", err)
		}
	}
	if err := b.give(b.here, text.ID); err != nil {
		t.Errorf("an answer in a descriptor, of which the broker reads nothing: %v", err)
	}
	b.wait(texts, api.StateOpen)
	journal.says("an answer is not taken")

	waiting := b.journal()
	reply(t, requests, "by file", "+"+answer)
	waiting.says("an agent's answer waits")
	if p, err := b.here.Prompts(within(t)); err != nil || len(p) != 2 { // the bystander's, and this one
		t.Errorf("%d prompts wait, %v", len(p), err)
	}
	if err := unix.Prlimit(b.BrokerPID(), unix.RLIMIT_MEMLOCK, &was, nil); err != nil {
		t.Fatal(err)
	}
	b.wait(files, api.StateOpen)
	if closed := next(b, func(c api.PromptClosed) bool { return c.ID == file.ID }); closed.Outcome != api.OutcomeAnswered {
		t.Errorf("its prompt ended with %s", closed.Outcome)
	}
	b.close(texts)
	b.close(files)
	goesOn()
}

// reply sends a datagram to the socket of a request, as agents of systemd do.
func reply(t *testing.T, dir, about, packet string) {
	t.Helper()
	var socket string
	system.AwaitFiles(t, dir, func() bool { socket = socketOf(dir, about); return socket != "" })
	conn, err := net.Dial("unixgram", socket)
	if err == nil {
		_, err = conn.Write([]byte(packet))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// socketOf is where the request about something wants its answer; empty if there is none.
func socketOf(dir, about string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "ask.*"))
	for _, path := range found {
		content, _ := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(content), "\nSocket=")
		if socket, _, _ := strings.Cut(rest, "\n"); ok && strings.Contains(string(content), about) {
			return socket
		}
	}
	return ""
}
