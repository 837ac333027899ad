// SPDX-License-Identifier: Apache-2.0

// Package hostile calls every method of every object of a running broker with
// arguments that are made up, as root and as a user who may do nothing. It takes
// what there is from introspection, so that a new member is tried without a word
// here. The seed is printed; PAMPROMPT_HOSTILE_SEED is one to begin with, and
// PAMPROMPT_HOSTILE how long each user goes on, such as 10m.
//
//	main_test.go    the objects that are to survive, and what is so afterwards
//	tree_test.go    which objects, interfaces and members there are
//	values_test.go  arguments
//	calls_test.go   the calls, and what may be the reply
//	agent_test.go   agents that take all the time that they get
//	misbehaving_test.go  agents that come and go, and give answers that are none
//	forged_test.go  who speaks as the broker does
//	flood_test.go   a uid that calls without end, and what that costs others
package hostile

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// patience bounds what must happen; nothing waits for it to pass.
const patience = 30 * time.Second

// slack is how many descriptors idle workers that come meanwhile may take.
const slack = 16

// forgotten is how long a session that has ended is there at least.
const forgotten = 25 * time.Second

// private is in what root has, and in nothing else.
const private = "cobaltgreen"

type bench struct {
	*system.Machine
	t    *testing.T
	root *dbus.Conn
}

func start(t *testing.T) *bench {
	t.Helper()
	return startOn(t, system.DBusDaemon)
}

// opens lets one user open sessions, and answer what they ask.
const opens = `
[[rule]]
action = "open"
service = "vault"
caller = "uid:60001"
verdict = "allow"
`

func startOn(t *testing.T, bus system.Bus) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be several users")
	}
	probe := modules.Probe(t)
	b := &bench{t: t, Machine: system.StartMachine(t, system.MachineOptions{Bus: bus, Policy: opens, Options: system.Options{Stacks: map[string]string{
		"vault":  system.Every(probe, "[auth:ask=secret,"+private+"? ]", "auth:expect=right"),
		"permit": system.Permit(),
	}}})}
	b.root = b.Conn(t)
	return b
}

func (b *bench) call(conn *dbus.Conn, path dbus.ObjectPath, member string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return conn.Object(api.BusName, path).CallWithContext(ctx, member, 0, args...)
}

func (b *bench) must(call *dbus.Call, into ...any) {
	b.t.Helper()
	if err := call.Store(into...); err != nil {
		b.t.Fatalf("%s: %v", call.Method, err)
	}
}

// set is one of each state that a session can be in for long.
type set struct {
	open, waiting, conversation, ended dbus.ObjectPath
	prompt, question                   uint64
	pipe                               *os.File
	since                              time.Time // ended is
}

func (s *set) paths() []dbus.ObjectPath {
	return []dbus.ObjectPath{s.open, s.waiting, s.conversation, s.ended}
}

// numbers are those of all that is in it.
func (s *set) numbers() []uint64 {
	all := []uint64{s.prompt, s.question}
	for _, path := range s.paths() {
		n, _ := strconv.ParseUint(strings.TrimPrefix(string(path), api.SessionPrefix), 10, 64)
		all = append(all, n)
	}
	return all
}

func (b *bench) set(conn *dbus.Conn) *set {
	b.t.Helper()
	s, none := new(set), map[string]dbus.Variant{}
	id := new(uint64)
	reason := map[string]dbus.Variant{"reason": dbus.MakeVariant(private)}
	for path, service := range map[*dbus.ObjectPath]string{&s.open: "permit", &s.waiting: "vault", &s.ended: "permit"} {
		b.must(b.call(conn, api.RootPath, api.ManagerInterface+".OpenSession", service, "root", reason), id, path)
	}
	b.must(b.call(conn, api.RootPath, api.ManagerInterface+".OpenConversation", "vault", "root", reason), id, &s.conversation)
	b.must(b.call(conn, s.ended, api.SessionInterface+".Close"))
	s.since = time.Now()
	b.wait(s.ended, api.StateClosed)
	b.wait(s.open, api.StateOpen)
	var style, message string
	b.must(b.call(conn, s.waiting, api.SessionInterface+".NextPrompt", uint64(0)), &s.prompt, &style, &message, &none)
	var fd dbus.UnixFD
	b.must(b.call(conn, s.conversation, api.SessionInterface+".Ask", api.StyleSecret, private+"? ", map[string]dbus.Variant{}), &s.question, &fd)
	s.pipe = os.NewFile(uintptr(fd), "answer")
	b.t.Cleanup(func() { _ = s.pipe.Close() })
	return s
}

func (b *bench) wait(path dbus.ObjectPath, state string) (got string) {
	b.t.Helper()
	var result int32
	var text string
	b.must(b.call(b.root, path, api.SessionInterface+".Wait", state), &got, &result, &text)
	return got
}

// survived checks that what waited waits, and can be answered.
func (b *bench) survived(s *set) {
	b.t.Helper()
	for path, want := range map[dbus.ObjectPath]string{s.open: "open", s.waiting: "opening", s.conversation: "open", s.ended: "closed"} {
		var state string
		call := b.call(b.root, path, "org.freedesktop.DBus.Properties.Get", api.SessionInterface, "State")
		if path == s.ended && time.Since(s.since) > forgotten && call.Err != nil {
			continue
		}
		b.must(call, &state)
		if state != want {
			b.t.Errorf("%s is %s, and was %s", path, state, want)
		}
	}
	for _, number := range []uint64{s.prompt, s.question} {
		b.must(b.call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", number, "right"))
	}
	if state := b.wait(s.waiting, api.StateOpen); state != api.StateOpen {
		b.t.Errorf("with its answer it is %s", state)
	}
	if got, err := io.ReadAll(s.pipe); err != nil || string(got) != "+right" {
		b.t.Errorf("the pipe says %q, %v", got, err)
	}
}

// closeOthers closes all sessions but those of a set.
func (b *bench) closeOthers(s *set) {
	b.t.Helper()
	var list [][]any
	b.must(b.call(b.root, api.RootPath, api.ManagerInterface+".ListSessions"), &list)
	keep := fmt.Sprint(s.paths(), " ")
	for _, session := range list {
		path := session[5].(dbus.ObjectPath)
		if !strings.Contains(keep, string(path)) {
			b.must(b.call(b.root, path, api.SessionInterface+".Close"))
			b.wait(path, api.StateClosed)
		}
	}
}

// broker is its process and how many descriptors that has.
func (b *bench) broker() (pid uint32, descriptors int) {
	b.t.Helper()
	b.must(b.root.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName), &pid)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		b.t.Fatal(err)
	}
	return pid, len(entries)
}

// luck is where the numbers come from, and how long they do.
func luck(t *testing.T) (r *rand.Rand, until time.Duration) {
	t.Helper()
	seed, until := uint64(time.Now().UnixNano()), 5*time.Second
	if text := os.Getenv("PAMPROMPT_HOSTILE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("PAMPROMPT_HOSTILE"); text != "" {
		var err error
		if until, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PAMPROMPT_HOSTILE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0)), until
}
