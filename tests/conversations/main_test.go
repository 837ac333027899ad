// SPDX-License-Identifier: Apache-2.0

// Package conversations tests OpenConversation and Ask on the whole of pamprompt:
// every way in which a question ends, and the broker's descriptors before and after.
// It holds nothing but tests.
//
//	main_test.go   what stands around all tests
//	ends_test.go   how a question ends
//	many_test.go   thousands at once, large answers, slow readers
//	input_test.go  what a program does wrong
package conversations

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// patience bounds what must happen; nothing waits for it to pass.
const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// bench is a broker on a bus of its own, a directory for systemd's agents, and a client
// that answers.
type bench struct {
	*system.OnBus
	t     testing.TB
	dir   string // of files for systemd's agents
	agent *api.Client
	heard *api.Watcher
	conn  *dbus.Conn // to ask the bus
}

func start(t testing.TB) *bench { t.Helper(); return startOn(t, system.StartOnBus) }

func startOn(t testing.TB, bus func(testing.TB, system.Options) *system.OnBus) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.OnBus = bus(t, system.Options{BrokerArgs: []string{"--ask-password=" + b.dir, "--user-ask-password=no"}})
	b.agent, b.conn = b.Client(t), b.Conn(t)
	var err error
	if b.heard, err = b.agent.Watch(context.Background(), api.WatchOptions{Agent: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.heard.Close)
	return b
}

// next waits for an event of one kind and skips others.
func next[E api.Event](b *bench) E {
	b.t.Helper()
	for late := time.After(patience); ; {
		select {
		case event, more := <-b.heard.Events():
			if wanted, ok := event.(E); ok {
				return wanted
			}
			if !more {
				b.t.Fatalf("the watcher ended: %v", b.heard.Err())
			}
		case <-late:
			b.t.Fatalf("there was no %T", *new(E))
		}
	}
}

// closed waits for the end of a prompt.
func (b *bench) closed(id uint64, outcome string) {
	b.t.Helper()
	for {
		if e := next[api.PromptClosed](b); e.ID == id {
			if e.Outcome != outcome {
				b.t.Errorf("prompt %d ended as %s, not %s", id, e.Outcome, outcome)
			}
			return
		}
	}
}

func converse(t testing.TB, c *api.Client, o api.ConversationOptions) *api.Conversation {
	t.Helper()
	v, err := c.OpenConversation(within(t), "ftp", "anna", o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ask(t testing.TB, v *api.Conversation, q api.Question) (uint64, *os.File) {
	t.Helper()
	id, response, err := v.Ask(within(t), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Close() })
	return id, response
}

var password = api.Question{Style: api.StyleSecret, Message: "Password: "}

func (b *bench) answer(id uint64, text string) error {
	b.t.Helper()
	s, err := secret.New(len(text))
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Wipe()
	copy(s.Bytes(), text)
	return b.agent.Answer(within(b.t), id, s)
}

// wantPipe reads a pipe to its end.
func wantPipe(t testing.TB, f *os.File, want string) {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(f)
	if err != nil || string(got) != want {
		t.Errorf("the pipe holds %d bytes (%.40q), %v; want %d (%.40q)", len(got), got, err, len(want), want)
	}
}

// open are the files that the broker has open, pipes and memfds among them.
func (b *bench) open() (names []string) {
	b.t.Helper()
	var pid uint32
	if err := b.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName).Store(&pid); err != nil {
		b.t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, entry := range entries {
		name, _ := os.Readlink(dir + entry.Name())
		if !strings.HasPrefix(name, "socket:") && name != "anon_inode:[pidfd]" { // of workers, which come when they like
			names = append(names, name)
		}
	}
	return names
}

// descriptors is how many there are.
func (b *bench) descriptors() int { b.t.Helper(); return len(b.open()) }

// watches waits until the broker looks after the files of systemd's agents, which it begins
// when it has the name.
func (b *bench) watches() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !slices.Contains(b.open(), "anon_inode:inotify"); {
		if time.Now().After(deadline) {
			b.t.Fatalf("the broker watches no directory: %q", b.open())
		}
	}
}

// warm is descriptors when the broker has what it keeps, the pipe in which answers come
// together.
func (b *bench) warm(c *api.Client) int {
	b.t.Helper()
	b.watches()
	v := converse(b.t, c, api.ConversationOptions{AskPassword: api.AskPasswordNo})
	id, response := ask(b.t, v, password)
	next[api.Prompt](b)
	if err := b.answer(id, "warm"); err != nil {
		b.t.Fatal(err)
	}
	wantPipe(b.t, response, "+warm")
	b.closed(id, api.OutcomeAnswered)
	if err := v.Close(within(b.t)); err != nil {
		b.t.Fatal(err)
	}
	return b.descriptors()
}

// wantDescriptors waits until there are at most as many: who has left the bus is known
// to have a moment later.
func (b *bench) wantDescriptors(most int) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got := b.descriptors()
		if got <= most {
			return
		}
		if time.Now().After(deadline) {
			b.t.Errorf("the broker has %d descriptors, and had %d: %q", got, most, b.open())
			return
		}
	}
}

// requests are the files for systemd's agents.
func (b *bench) requests() (names []string) {
	b.t.Helper()
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "ask.") {
			names = append(names, entry.Name())
		}
	}
	return names
}

// call is a call without the library's checks.
func call(conn *dbus.Conn, path dbus.ObjectPath, member string, args ...any) *dbus.Call {
	return conn.Object(api.BusName, path).Call(member, 0, args...)
}
