// SPDX-License-Identifier: Apache-2.0

// Package security tests who may do what, with real processes of several users,
// on the real bus with the policy that is shipped, with the real polkitd and
// its actions that are shipped. It holds nothing but tests.
//
//	main_test.go      what stands around all tests: a machine and its users
//	other_test.go     a user who has no business here: sees and learns nothing
//	see_test.go       ... and who may see a session, and no more
//	apart_test.go     ... and that to see, to answer and to end are three things
//	time_test.go      ... not even from how long a refusal takes
//	opener_test.go    a user whom a rule lets open sessions
//	limits_test.go    ... and how many
//	conversation_test.go  a user whom a rule lets put questions of its own
//	gate_test.go      ... and how many answers are checked at once
//	audit_test.go     what is written down
//	rules_test.go     the files of rules, and how a broker reads them again
//	agent_test.go     a user who answers what others' sessions ask, by polkit
//	polkit_test.go    polkit that is slow, away, or asks for a password itself
//	silent_test.go    ... and that is back: agents are told of what waits
//	exam_test.go      what went wrong elsewhere: a test for each CVE
//	history_test.go   ... more of them
package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
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

// What nobody may learn who has no business with it. None of it is part of any
// other text here.
const (
	service  = "vault" // of root's session
	user     = "anna"  // for whom it is
	question = "Which colour has the safe? "
	notice   = "The safe has two doors"
	reason   = "the treasurer is on holiday"
	answer   = "cobalt green"
)

var private = []string{service, user, question, notice, reason, answer}

// bench is a machine, and root's connection to its bus.
type bench struct {
	*system.Machine
	t    testing.TB
	root *dbus.Conn
}

// onEitherBus runs a test on a machine with each implementation of the bus.
func onEitherBus(t *testing.T, o system.MachineOptions, test func(t *testing.T, b *bench)) {
	t.Helper()
	for _, bus := range system.Buses {
		t.Run(string(bus), func(t *testing.T) {
			o.Bus = bus
			test(t, start(t, o))
		})
	}
}

// start starts a machine. Its stacks are vault, which says something and asks
// a question; ask, which asks one that is no secret; and permit, which asks
// nothing.
func start(t testing.TB, o system.MachineOptions) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be several users")
	}
	probe := modules.Probe(t)
	stacks := map[string]string{
		service:    system.Every(probe, "[auth:info="+notice+"]", "[auth:ask=secret,"+question+"]", "[auth:expect="+answer+"]"),
		"ask":      system.Every(probe, "[auth:ask=secret,Password: ]", "auth:expect=right"),
		"permit":   system.Permit(),
		"polkit-1": system.Permit(), // whom polkit asks for a password, needs none
	}
	for name, stack := range o.Stacks {
		stacks[name] = strings.ReplaceAll(stack, "PROBE", probe)
	}
	o.Stacks = stacks
	o.BrokerArgs = append([]string{"--log-level", "debug"}, o.BrokerArgs...)
	b := &bench{Machine: system.StartMachine(t, o), t: t}
	b.root = b.Conn(t)
	return b
}

// person is a user's connection, with all that has come on it.
type person struct {
	*system.User
	t testing.TB

	interactive atomic.Bool // calls let polkit ask for a password

	mu   sync.Mutex
	came []*dbus.Message
	more chan struct{} // closed when something comes, and replaced
}

// join has somebody connect.
func (b *bench) join(t testing.TB, who system.Identity) *person {
	t.Helper()
	p := &person{t: t, more: make(chan struct{})}
	p.User = b.Join(t, who, dbus.WithIncomingInterceptor(p.hear), dbus.WithOutgoingInterceptor(p.flag))
	return p
}

// flag sets the flag that lets polkit ask. Object.Call does not pass it on.
func (p *person) flag(m *dbus.Message) {
	if m.Type == dbus.TypeMethodCall && p.interactive.Load() {
		m.Flags |= dbus.FlagAllowInteractiveAuthorization
	}
}

func (p *person) hear(m *dbus.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.came = append(p.came, m)
	close(p.more)
	p.more = make(chan struct{})
}

// heard is all that has come until now.
func (p *person) heard() []*dbus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.came[:len(p.came):len(p.came)]
}

// settle returns when all has come that the broker sent before: a reply of its
// is behind it.
func (p *person) settle() {
	p.t.Helper()
	if err := p.call(api.RootPath, "org.freedesktop.DBus.Peer.Ping").Err; err != nil {
		p.t.Fatal(err)
	}
}

// signals are those of a member that have come, of whoever.
func (p *person) signals(member string) []*dbus.Message {
	var found []*dbus.Message
	for _, m := range p.heard() {
		if m.Type == dbus.TypeSignal && m.Headers[dbus.FieldMember].Value() == member {
			found = append(found, m)
		}
	}
	return found
}

// prompt waits for the Prompt signal of a session, and returns its number and
// its details.
func (p *person) prompt(session dbus.ObjectPath) (number uint64, details map[string]dbus.Variant) {
	p.t.Helper()
	for late := time.After(patience); ; {
		p.mu.Lock()
		more := p.more
		p.mu.Unlock()
		for _, m := range p.signals("Prompt") {
			if len(m.Body) == 5 && m.Body[1] == session {
				return m.Body[0].(uint64), m.Body[4].(map[string]dbus.Variant)
			}
		}
		select {
		case <-more:
		case <-late:
			p.t.Fatalf("uid %d was told of no prompt of %s", p.UID, session)
		}
	}
}

func (p *person) call(path dbus.ObjectPath, member string, args ...any) *dbus.Call {
	return call(p.Conn, path, member, args...)
}

func (p *person) manager(member string, args ...any) *dbus.Call {
	return p.call(api.RootPath, api.ManagerInterface+"."+member, args...)
}

// agent registers the connection as an agent.
func (p *person) agent() *person {
	p.t.Helper()
	if err := p.manager("RegisterAgent", options{}).Err; err != nil {
		p.t.Fatalf("register an agent of uid %d: %v", p.UID, err)
	}
	return p
}

// open opens a session and returns its path.
func (p *person) open(service, user string, o options) dbus.ObjectPath {
	p.t.Helper()
	return open(p.t, p.Conn, service, user, o)
}

type options map[string]dbus.Variant

func call(conn *dbus.Conn, path dbus.ObjectPath, member string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return conn.Object(api.BusName, path).CallWithContext(ctx, member, 0, args...)
}

func open(t testing.TB, conn *dbus.Conn, service, user string, o options) dbus.ObjectPath {
	t.Helper()
	var id uint64
	var path dbus.ObjectPath
	if o == nil {
		o = options{}
	}
	if err := call(conn, api.RootPath, api.ManagerInterface+".OpenSession", service, user, o).Store(&id, &path); err != nil {
		t.Fatalf("OpenSession %s for %s: %v", service, user, err)
	}
	return path
}

// vault has root open the session that nobody else is to know of, and waits for
// its question.
func (b *bench) vault(t testing.TB) (session dbus.ObjectPath, prompt uint64) {
	t.Helper()
	session = open(t, b.root, service, user, options{"reason": dbus.MakeVariant(reason)})
	return session, b.asked(t, session)
}

// asked waits, as root, for the question of a session.
func (b *bench) asked(t testing.TB, session dbus.ObjectPath) (prompt uint64) {
	t.Helper()
	var style, message string
	var details map[string]dbus.Variant
	if err := call(b.root, session, api.SessionInterface+".NextPrompt", uint64(0)).Store(&prompt, &style, &message, &details); err != nil {
		t.Fatalf("NextPrompt of %s: %v", session, err)
	}
	return prompt
}

// wait waits, as root, for a state.
func (b *bench) wait(t testing.TB, session dbus.ObjectPath, state string) (got, text string) {
	t.Helper()
	var result int32
	if err := call(b.root, session, api.SessionInterface+".Wait", state).Store(&got, &result, &text); err != nil {
		t.Fatalf("Wait for %s of %s: %v", state, session, err)
	}
	return got, text
}

// errorName is the name of a D-Bus error; empty for none.
func errorName(t testing.TB, err error) string {
	t.Helper()
	var named dbus.Error
	if err == nil {
		return ""
	}
	if !errors.As(err, &named) {
		t.Fatalf("%v is no error of D-Bus", err)
	}
	return named.Name
}

// wantDenied checks that somebody was refused, by the broker.
func wantDenied(t testing.TB, what string, err error) {
	t.Helper()
	if name := errorName(t, err); name != api.ErrorPrefix+string(api.AccessDenied) {
		t.Errorf("%s: %v, want AccessDenied", what, err)
	}
}

// wantCode checks for an error of the contract.
func wantCode(t testing.TB, what string, err error, code api.Code) {
	t.Helper()
	if name := errorName(t, err); name != api.ErrorPrefix+string(code) {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// leaked is the first private text in what was received; empty for none.
func leaked(m *dbus.Message) string {
	all := fmt.Sprint(m.Body, m.Headers)
	for _, text := range private {
		if strings.Contains(all, strings.TrimSpace(text)) {
			return text
		}
	}
	return ""
}
