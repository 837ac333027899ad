// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// answerBy answers a prompt with what a descriptor holds.
func (b *bench) answerBy(conn *dbus.Conn, prompt uint64, from *os.File, done chan *dbus.Call) {
	conn.Object(api.BusName, api.RootPath).Go(api.ManagerInterface+".AnswerPromptFD", 0, done, prompt, dbus.UnixFD(from.Fd()))
}

// Somebody whose pipes never end, and are many, takes nobody else's time.
func TestPipesThatNeverEndHoldUpNobodyElse(t *testing.T) {
	b := start(t)
	kept := b.set(b.root)
	opener := b.Join(t, system.Opener).Conn
	var session dbus.ObjectPath
	var id, prompt uint64
	var style, text string
	none := map[string]dbus.Variant{}
	b.must(b.call(opener, api.RootPath, api.ManagerInterface+".OpenSession", "vault", "root", none), &id, &session)
	b.must(b.call(opener, session, api.SessionInterface+".NextPrompt", uint64(0)), &prompt, &style, &text, &none)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	const many = 100
	done := make(chan *dbus.Call, many)
	for range many {
		b.answerBy(opener, prompt, r, done)
	}
	b.must(b.call(opener, api.RootPath, "org.freedesktop.DBus.Peer.Ping")) // they have all arrived
	ended, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ended.Close() }()
	_, _ = writer.WriteString("right")
	_ = writer.Close()
	ours := make(chan *dbus.Call, 1)
	b.answerBy(b.root, kept.question, ended, ours)
	select {
	case call := <-ours:
		b.must(call)
	case call := <-done:
		t.Errorf("a pipe that does not end had its time before another uid's answer: %v", call.Err)
		<-ours
	case <-time.After(patience):
		t.Fatal("another uid's answer is not taken")
	}
	_ = w.Close() // an empty answer, and then none is wanted any more
	for range many {
		b.reply(done)
	}
	got := make([]byte, 16)
	if n, err := kept.pipe.Read(got); err != nil || string(got[:n]) != "+right" {
		t.Errorf("the pipe says %q, %v", got[:n], err)
	}
	b.must(b.call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", kept.prompt, "right"))
	if state := b.wait(kept.waiting, api.StateOpen); state != api.StateOpen {
		t.Errorf("with its answer it is %s", state)
	}
}

// An agent that never reads is the bus's to bear: others are told, and the broker
// keeps nothing for it.
func TestAnAgentThatNeverReads(t *testing.T) {
	for _, bus := range system.Buses {
		t.Run(string(bus), func(t *testing.T) {
			b := startOn(t, bus)
			kept := b.set(b.root)
			deaf := system.Socket(t, b.Address, system.Identity{})
			greet(t, deaf, system.Identity{})
			register := flood{message: managerCall("RegisterAgent", 0, map[string]dbus.Variant{})}.encode(t)
			if _, err := deaf.Write(register); err != nil {
				t.Fatal(err)
			}
			if m, err := dbus.DecodeMessage(deaf); err != nil || m.Type == dbus.TypeError {
				t.Fatalf("it is no agent: %v, %v", m, err)
			}
			conn := b.Conn(t)
			told := make(chan *dbus.Signal, 1024)
			conn.Signal(told)
			b.must(b.call(conn, api.RootPath, api.ManagerInterface+".RegisterAgent", map[string]dbus.Variant{}))
			pid, before := b.broker()
			const many = 200
			long := strings.Repeat("x", 100_000)
			var last uint64
			for range many {
				var fd dbus.UnixFD
				b.must(b.call(b.root, kept.conversation, api.SessionInterface+".Ask", api.StyleSecret, long, map[string]dbus.Variant{}), &last, &fd)
				for signal := range told {
					if signal.Name == api.ManagerInterface+".Prompt" && signal.Body[0] == last {
						break
					}
				}
				b.must(b.call(b.root, api.RootPath, api.ManagerInterface+".CancelPrompt", last))
				closeFD(t, fd)
			}
			now, after := b.broker()
			if now != pid || after > before+slack {
				t.Errorf("the broker was process %d with %d descriptors, and is %d with %d", pid, before, now, after)
			}
			if most := resident(t, pid); most > 200<<10 {
				t.Errorf("the broker takes %d KiB", most)
			}
			b.survived(kept)
		})
	}
}

// resident is how much memory a process has, in KiB.
func resident(t *testing.T, pid uint32) (kib uint64) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(raw, []byte("VmRSS:"))
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
