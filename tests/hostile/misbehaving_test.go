// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pty"
	"github.com/pamprompt/pamprompt/tests/system"
)

// refusal is the code of an error of the broker's, or what else was said.
func refusal(err error) string {
	var named dbus.Error
	if errors.As(err, &named) {
		return strings.TrimPrefix(named.Name, api.ErrorPrefix)
	}
	return fmt.Sprint(err)
}

// own opens a session as somebody who may, and returns the prompt that waits in it.
func (b *bench) own(conn *dbus.Conn) (session dbus.ObjectPath, prompt uint64) {
	b.t.Helper()
	var id uint64
	var style, text string
	none := map[string]dbus.Variant{}
	b.must(b.call(conn, api.RootPath, api.ManagerInterface+".OpenSession", "vault", "root", none), &id, &session)
	b.must(b.call(conn, session, api.SessionInterface+".NextPrompt", uint64(0)), &prompt, &style, &text, &none)
	return session, prompt
}

// pipe is one whose ends are closed with the test, if not before.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// rules are how many match rules somebody has on the bus.
func (b *bench) rules(name string) int {
	b.t.Helper()
	var by map[string][]string
	b.must(b.root.BusObject().Call("org.freedesktop.DBus.Debug.Stats.GetAllMatchRules", 0), &by)
	var unique string
	b.must(b.root.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, name), &unique)
	return len(by[unique])
}

// told waits until an agent is told of a prompt.
func (b *bench) told(signals <-chan *dbus.Signal, prompt uint64) {
	b.t.Helper()
	for late := time.After(patience); ; {
		select {
		case signal := <-signals:
			if signal.Name == api.ManagerInterface+".Prompt" && signal.Body[0] == prompt {
				return
			}
		case <-late:
			b.t.Fatalf("an agent was not told of prompt %d", prompt)
		}
	}
}

// An agent that comes and goes without end leaves nothing in the broker or the bus,
// and others are told as before.
func TestAnAgentThatRegistersWithoutEnd(t *testing.T) {
	b := start(t)
	kept := b.set(b.root)
	bystander := b.Conn(t)
	signals := make(chan *dbus.Signal, 1024)
	bystander.Signal(signals)
	b.must(b.call(bystander, api.RootPath, api.ManagerInterface+".RegisterAgent", map[string]dbus.Variant{}))
	b.told(signals, kept.prompt)
	busy := b.Conn(t) // it drops what it is told
	pid, before := b.broker()
	rules := b.rules(api.BusName)
	const many = 1000
	done := make(chan *dbus.Call, 2*many)
	manager := busy.Object(api.BusName, api.RootPath)
	since := time.Now()
	for i := range many {
		manager.Go(api.ManagerInterface+".RegisterAgent", 0, done, map[string]dbus.Variant{})
		manager.Go(api.ManagerInterface+".UnregisterAgent", 0, done)
		if i%8 == 7 { // as many at once as any bus takes
			for range 16 {
				b.reply(done)
			}
		}
	}
	t.Attr("saw", fmt.Sprintf("an agent registers and leaves %d times with two prompts pending: %v", many, time.Since(since).Round(time.Millisecond)))
	_ = busy.Close()
	session, prompt := b.own(b.root)
	b.told(signals, prompt)
	b.must(b.call(b.root, session, api.SessionInterface+".Close"))
	b.wait(session, api.StateClosed)
	if after := b.rules(api.BusName); after > rules {
		t.Errorf("the broker has %d match rules, before it had %d", after, rules)
	}
	b.survived(kept)
	b.unharmed(kept, pid, before)
}

// What is no answer is refused at once, and the prompt waits on; what never ends has
// ten seconds, in which others are answered.
func TestAnAgentWhoseAnswersAreNone(t *testing.T) {
	t.Parallel() // it waits ten seconds for a pipe
	b := start(t)
	kept := b.set(b.root)
	opener := b.Join(t, system.Opener).Conn
	stranger := b.Join(t, system.Other).Conn
	session, prompt := b.own(opener)
	pid, before := b.broker()

	// One byte after another, slower than the broker reads, until it does not.
	r, w := pipe(t)
	endless := make(chan *dbus.Call, 1)
	since := time.Now()
	b.answerBy(opener, prompt, r, endless)
	trickled := make(chan int, 1)
	go func() {
		n, tick := 0, time.NewTicker(20*time.Millisecond)
		defer tick.Stop()
		for ; ; n++ {
			if _, err := w.Write([]byte("x")); err != nil {
				trickled <- n
				return
			}
			<-tick.C
		}
	}()
	b.must(b.call(opener, api.RootPath, "org.freedesktop.DBus.Peer.Ping"))
	_ = r.Close()

	for who, conn := range map[string]*dbus.Conn{"a stranger": stranger, "who opened another session": opener} {
		for member, args := range map[string][]any{"AnswerPrompt": {"right"}, "CancelPrompt": {}} {
			nothing := prompt + 100
			try := func(number uint64) string {
				err := b.call(conn, api.RootPath, api.ManagerInterface+"."+member, append([]any{number}, args...)...).Err
				return strings.ReplaceAll(refusal(err)+fmt.Sprint(err), fmt.Sprint(number), "N")
			}
			want := try(nothing)
			for _, number := range []uint64{kept.prompt, kept.question} {
				if got := try(number); got != want || !strings.HasPrefix(got, string(api.AccessDenied)) && !strings.HasPrefix(got, string(api.NoSuchPrompt)) {
					t.Errorf("%s: %s says %q, of a prompt that there is not %q", who, member, got, want)
				}
			}
		}
	}
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket, peer := os.NewFile(uintptr(sockets[0]), "socket"), os.NewFile(uintptr(sockets[1]), "peer")
	defer func() { _, _ = socket.Close(), peer.Close() }()
	_, _ = peer.WriteString("right")
	_, terminal := pty.Open(t)
	files := map[string]*os.File{"a socket": socket, "a terminal": terminal}
	for what, name := range map[string]string{"a directory": "/", "/dev/zero": "/dev/zero", "a file": "/etc/passwd"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		files[what] = f
	}
	for what, f := range files {
		done := make(chan *dbus.Call, 1)
		b.answerBy(opener, prompt, f, done)
		select {
		case call := <-done:
			if got := refusal(call.Err); got != string(api.InvalidArgument) {
				t.Errorf("an answer by %s: %s", what, got)
			}
		case <-time.After(patience):
			t.Fatalf("an answer by %s is read without end", what)
		}
	}
	b.survived(kept) // which answers two prompts meanwhile
	select {
	case call := <-endless:
		t.Errorf("the pipe that trickles has ended first: %v", call.Err)
	default:
		b.reply(endless)
	}
	t.Attr("saw", fmt.Sprintf("an answer that comes byte by byte is given up after %v and %d bytes", time.Since(since).Round(100*time.Millisecond), <-trickled))

	for i, want := range []string{"<nil>", string(api.AlreadyAnswered), string(api.AlreadyAnswered)} {
		if got := refusal(b.call(opener, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, "right").Err); got != want && (i == 0 || got != string(api.NoSuchPrompt)) {
			t.Errorf("answer %d of the same prompt: %s, not %s", i+1, got, want)
		}
	}
	if state := b.wait(session, api.StateOpen); state != api.StateOpen {
		t.Errorf("with its answer it is %s", state)
	}
	if now, after := b.broker(); now != pid || after > before+slack {
		t.Errorf("the broker was process %d with %d descriptors, and is %d with %d", pid, before, now, after)
	}
}

// An agent that leaves while its pipe is read takes no prompt with it, and the broker
// gives the pipe back.
func TestAnAgentThatLeavesAsItAnswers(t *testing.T) {
	t.Parallel() // it waits ten seconds for a pipe
	b := start(t)
	kept := b.set(b.root)
	opener, second := b.Join(t, system.Opener).Conn, b.Join(t, system.Opener)
	session, prompt := b.own(opener)
	r, w := pipe(t)
	b.answerBy(second.Conn, prompt, r, make(chan *dbus.Call, 1))
	b.must(b.call(second.Conn, api.RootPath, "org.freedesktop.DBus.Peer.Ping"))
	_, _ = w.WriteString("rig") // the first part, and no more
	second.Leave(t)
	_ = r.Close()
	b.must(b.call(opener, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, "right"))
	if state := b.wait(session, api.StateOpen); state != api.StateOpen {
		t.Errorf("with its answer it is %s", state)
	}
	since := time.Now()
	hung := []unix.PollFd{{Fd: int32(w.Fd())}} // POLLERR: nobody can read it any more
	for hung[0].Revents == 0 {
		n, err := unix.Poll(hung, int(patience.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			t.Fatalf("the broker keeps the pipe of an agent that has left: %v", err)
		}
	}
	t.Attr("saw", fmt.Sprintf("the pipe of an agent that has left is closed %v after the prompt's answer", time.Since(since).Round(10*time.Millisecond)))
	b.survived(kept)
}
