// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestAnAnswerByDescriptor(t *testing.T) {
	needRoot(t)
	for name, start := range map[string]func(testing.TB, system.Options) *system.OnBus{
		"dbus-daemon": system.StartOnBus, "dbus-broker": system.StartOnDBusBroker,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("%v: the Debian package %s has it", err, name)
			}
			k := newSecret()
			b := onStage(t, start(t, options(t, map[string]string{"one": asks(t, k)})))
			b.listen()
			s := b.open("one", "anna")
			if err := b.answer(next[api.Prompt](b).ID, k.text); err != nil {
				t.Fatal(err)
			}
			b.wantOpen(s)
			b.wantNowhere(k, nil)
		})
	}
}

// And after wrong ones, which PAM answers with the next question.
func TestAnswersThatAreWrong(t *testing.T) {
	k, wrong := newSecret(), newSecret()
	b := start(t, map[string]string{"one": asks(t, k)})
	b.listen()
	s := b.open("one", "anna")
	for _, text := range []string{wrong.text, wrong.text, k.text} {
		if err := b.answer(next[api.Prompt](b).ID, text); err != nil {
			t.Fatal(err)
		}
	}
	b.wantOpen(s)
	b.wantNowhere(wrong, nil)
	b.wantNowhere(k, nil)
}

// One that comes too late, or for a prompt that there is not, is nobody's.
func TestAnAnswerThatNobodyWants(t *testing.T) {
	k, late := newSecret(), newSecret()
	b := start(t, map[string]string{"one": asks(t, k)})
	b.listen()
	s := b.open("one", "anna")
	p := next[api.Prompt](b).ID
	if err := b.answer(p, k.text); err != nil {
		t.Fatal(err)
	}
	b.wantOpen(s)
	for _, prompt := range []uint64{p, p + 1} {
		err := b.answer(prompt, late.text)
		if err == nil {
			t.Fatal("it was taken")
		}
		late.wantNotIn(t, "the error", err.Error())
	}
	b.wantNowhere(late, nil)
}

// The client is a process that goes on, so its memory can be looked at: it asks
// again, and by then it is over with the first answer.
func TestTheAgentOnATerminal(t *testing.T) {
	k, second := newSecret(), newSecret()
	b := start(t, map[string]string{"one": asks(t, k), "two": asks(t, second)})
	a := b.at("agent", "--json")
	a.see("waiting for prompts")
	s := b.open("one", "anna")
	a.see("Password: ")
	a.press(k.text[:10] + "x\x7f" + k.text[10:] + "\r")
	b.wantOpen(s)
	b.open("two", "anna")
	a.see("Password: ")
	b.wantNowhere(k, map[string]int{"client": a.cmd.Process.Pid})
	a.leave()
	k.wantNotIn(t, "the screen", a.shown())
	k.wantNotIn(t, "standard output", a.stdout.String())
}

// open asks on the terminal for the session that it opens itself.
func TestTheOpenerOnATerminal(t *testing.T) {
	k, second := newSecret(), newSecret()
	b := start(t, map[string]string{"both": strings.Replace(asks(t, k), "\naccount", "\n"+strings.SplitN(asks(t, second), "\n", 2)[0]+"\naccount", 1)})
	a := b.at("open", "both", "anna")
	a.see("Password: ")
	a.press(k.text + "\r")
	a.see("Password: ")
	b.wantNowhere(k, map[string]int{"client": a.cmd.Process.Pid})
	a.press(second.text + "\r")
	a.line()
	b.wantNowhere(second, map[string]int{"client": a.cmd.Process.Pid})
	b.wantNowhere(k, map[string]int{"client": a.cmd.Process.Pid})
	a.leave()
}

const replyPassword = "/lib/systemd/systemd-reply-password"

func TestAnAnswerOfASystemdAgent(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat(replyPassword); err != nil {
		t.Skipf("%v: the Debian package systemd has it", err)
	}
	k := newSecret()
	dir := t.TempDir()
	b := start(t, map[string]string{"one": asks(t, k)}, "--ask-password="+dir, "--user-ask-password=no")
	b.listen()
	s := b.open("one", "anna")
	next[api.Prompt](b)
	cmd := exec.Command(replyPassword, "1", b.request(dir).Socket)
	cmd.Stdin = strings.NewReader(k.text + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.wantOpen(s)
	b.wantNowhere(k, nil)
}

// request waits for the only one in a directory.
func (b *bench) request(dir string) protocol.Request {
	b.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		b.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = f.Close() }()
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MOVE)
	if err = errors.Join(err, f.SetReadDeadline(time.Now().Add(patience))); err != nil {
		b.t.Fatal(err)
	}
	for buf := make([]byte, 4096); ; {
		files, err := filepath.Glob(filepath.Join(dir, "ask.*"))
		if err != nil {
			b.t.Fatal(err)
		}
		if len(files) == 1 {
			text, err := os.ReadFile(files[0])
			if err != nil {
				b.t.Fatal(err)
			}
			r, err := protocol.Parse(text)
			if err != nil {
				b.t.Fatal(err)
			}
			return r
		}
		if _, err := f.Read(buf); err != nil {
			b.t.Fatalf("there is no request in %s: %v", dir, err)
		}
	}
}

// What is there is found in a worker, which a module has keep it, in the broker,
// which shows the environment of PAM, and in a client while it is typed.
func TestACopyInTheProgramsIsFound(t *testing.T) {
	k := newSecret()
	b := start(t, map[string]string{"one": "auth requisite " + modules.Probe(t) + " [auth:ask=visible,Name: ] auth:export=NAME\n" +
		"account required pam_permit.so\npassword required pam_permit.so\nsession required pam_permit.so\n"})
	a := b.at("agent")
	a.see("waiting for prompts")
	s := b.open("one", "anna")
	a.see("Name: ")
	a.press(k.text)
	a.see(k.text)
	if len(scan(t, a.cmd.Process.Pid, k)) == 0 {
		t.Error("it was not found in the client")
	}
	a.press("\r")
	b.wantOpen(s)
	found := make(map[string]int)
	for name, pid := range b.processes() {
		found[name[:min(6, len(name))]] += len(scan(t, pid, k))
	}
	if found["worker"] == 0 || found["broker"] == 0 {
		t.Errorf("it was not found in worker or broker: %v", found)
	}
}

// The one way on which the bus and the broker do have the secret, and nobody
// wipes it, which is why there is the other. It also shows that a copy in these
// very processes is found.
func TestAnAnswerAsTextIsFound(t *testing.T) {
	k := newSecret()
	b := start(t, map[string]string{"one": asks(t, k)})
	b.listen()
	s := b.open("one", "anna")
	if err := b.answerAsText(next[api.Prompt](b).ID, k.text); err != nil {
		t.Fatal(err)
	}
	b.wantOpen(s)
	found := make(map[string]int)
	for name, pid := range b.processes() {
		found[name] = len(scan(t, pid, k))
	}
	if found["broker"] == 0 && found["bus"] == 0 {
		t.Errorf("a secret in a message was found in neither bus nor broker: %v", found)
	}
	for name, n := range found {
		if n > 0 && name != "broker" && name != "bus" {
			t.Errorf("the %s has %d copies of it", name, n)
		}
	}
	k.wantNotIn(t, "the log", b.Log())
}
