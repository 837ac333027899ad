// SPDX-License-Identifier: Apache-2.0

package security

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// converses lets the agent's user have conversations of one service.
const converses = `
[[rule]]
action = "converse"
service = "ftp"
caller = "uid:60003"
verdict = "allow"
`

// converse opens a conversation.
func converse(t testing.TB, conn *dbus.Conn, service string, o options) (dbus.ObjectPath, error) {
	t.Helper()
	var id uint64
	var path dbus.ObjectPath
	if o == nil {
		o = options{}
	}
	return path, call(conn, api.RootPath, api.ManagerInterface+".OpenConversation", service, "anna", o).Store(&id, &path)
}

// ask puts a question, and returns its number and its pipe.
func ask(t testing.TB, conn *dbus.Conn, path dbus.ObjectPath, style, message string, o options) (uint64, *os.File, error) {
	t.Helper()
	var id uint64
	var fd dbus.UnixFD
	if o == nil {
		o = options{}
	}
	if err := call(conn, path, api.SessionInterface+".Ask", style, message, o).Store(&id, &fd); err != nil {
		return 0, nil, err
	}
	f := os.NewFile(uintptr(fd), "response")
	t.Cleanup(func() { _ = f.Close() })
	return id, f, nil
}

func wantPipe(t testing.TB, f *os.File, want string) {
	t.Helper()
	got, err := io.ReadAll(f)
	if err != nil || string(got) != want {
		t.Errorf("the pipe says %q, %v; want %q", got, err, want)
	}
}

// Who converses has what others answer. So it is neither who may open sessions, nor
// anybody else for whom no rule says it.
func TestToConverseIsAPermissionOfItsOwn(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opens + converses}, func(t *testing.T, b *bench) {
		opener, agent, other := b.join(t, system.Opener), b.join(t, system.Agent), b.join(t, system.Other)
		for _, c := range []struct {
			name, service string
			who           *person
		}{
			{"who may open this service", "ask", opener},
			{"who may converse, as another service", "ask", agent},
			{"a user without a rule", "ftp", other},
			{"a user without a rule, as no service", "nosuch", other},
		} {
			_, err := converse(t, c.who.Conn, c.service, nil)
			wantDenied(t, c.name, err)
		}
		wantDenied(t, "who may converse opens", agent.manager("OpenSession", "ftp", "anna", options{}).Err)
		if _, err := converse(t, b.root, "ftp", nil); err != nil {
			t.Errorf("root: %v", err)
		}
		path, err := converse(t, agent.Conn, "ftp", nil)
		if err != nil {
			t.Fatal(err)
		}
		number, pipe, err := ask(t, agent.Conn, path, api.StyleSecret, "Password: ", nil)
		if err != nil {
			t.Fatal(err)
		}
		wantDenied(t, "another user's answer", other.manager("AnswerPrompt", number, "guess").Err)
		if err := call(b.root, api.RootPath, api.ManagerInterface+".AnswerPromptFD", number, pipeWith(t, answer)).Err; err != nil {
			t.Fatal(err)
		}
		wantPipe(t, pipe, "+"+answer)
	})
}

// An answer is for the connection that opened the conversation: not for another one of
// its user, not for root, not for who may see it.
func TestOnlyTheOwnersConnectionAsks(t *testing.T) {
	sees := "[[rule]]\naction = [\"see\", \"answer\", \"manage\"]\nservice = \"ftp\"\ncaller = \"uid:60001\"\nverdict = \"allow\"\n"
	onEitherBus(t, system.MachineOptions{Policy: opens + converses + sees}, func(t *testing.T, b *bench) {
		owner, same, seer, other := b.join(t, system.Agent), b.join(t, system.Agent), b.join(t, system.Opener), b.join(t, system.Other)
		path, err := converse(t, owner.Conn, "ftp", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, conn := range map[string]*dbus.Conn{
			"the same user": same.Conn, "root": b.root, "who may see and answer": seer.Conn, "another user": other.Conn,
		} {
			for _, style := range []string{api.StyleSecret, api.StyleInfo, "nonsense"} {
				_, _, err := ask(t, conn, path, style, "Password: ", nil)
				wantDenied(t, name+" asks "+style, err)
			}
		}
		if err := seer.call(path, api.SessionInterface+".Close").Err; err != nil {
			t.Fatal(err)
		}
		_, _, err = ask(t, owner.Conn, path, api.StyleSecret, "Password: ", nil)
		wantCode(t, "to ask in a conversation that was closed", err, api.Cancelled)
		session := open(t, b.root, "ask", "anna", nil)
		_, _, err = ask(t, b.root, session, api.StyleSecret, "Password: ", nil)
		wantCode(t, "to ask in a session", err, api.InvalidArgument)
		wantCode(t, "a signal to a conversation", owner.call(path, api.SessionInterface+".Kill", api.KillAll, int32(15)).Err, api.InvalidArgument)
	})
}

// Who answers is told of the process that the bus knows, and only root says another.
func TestOnlyRootAsksForAnotherProcess(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: converses})
	agent, other := b.join(t, system.Agent), b.join(t, system.Other)
	for _, who := range []*person{agent, other} {
		_, err := converse(t, who.Conn, "ftp", options{"pid": dbus.MakeVariant(uint32(1))})
		wantDenied(t, fmt.Sprintf("option pid of uid %d", who.UID), err)
	}
	path, err := converse(t, b.root, "ftp", options{"pid": dbus.MakeVariant(uint32(other.PID))})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ask(t, b.root, path, api.StyleSecret, "Password: ", nil); err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", other.PID))
	if err != nil {
		t.Fatal(err)
	}
	var number uint64
	var style, message string
	var details map[string]dbus.Variant
	if err := call(b.root, path, api.SessionInterface+".NextPrompt", uint64(0)).Store(&number, &style, &message, &details); err != nil {
		t.Fatal(err)
	}
	if details["owner-pid"].Value() != uint32(other.PID) || fmt.Sprintln(details["owner-comm"].Value()) != string(comm) || details["owner-uid"].Value() != uint32(0) {
		t.Errorf("the prompt of process %d (%s) has %v", other.PID, comm, details)
	}
	var pid dbus.Variant
	if err := call(b.root, path, "org.freedesktop.DBus.Properties.Get", api.SessionInterface, "OwnerPID").Store(&pid); err != nil || pid.Value() != uint32(other.PID) {
		t.Errorf("OwnerPID is %v, %v", pid, err)
	}
}

// Whose question it is decides who is told it: that is for root to say, and for no other
// program that asks.
func TestOnlyRootSaysWhoseUIDItIs(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: converses})
	anna, agent := b.join(t, system.Anna), b.join(t, system.Agent)
	b.Login(t, anna.User, true, true)
	anna.agent()
	theirs := options{"uid": dbus.MakeVariant(system.Anna.UID)}
	_, err := converse(t, agent.Conn, "ftp", theirs)
	wantDenied(t, "option uid of another than root", err)
	for _, o := range []options{nil, theirs} {
		path, err := converse(t, b.root, "ftp", o)
		if err != nil {
			t.Fatal(err)
		}
		number, pipe, err := ask(t, b.root, path, api.StyleSecret, "Password: ", nil)
		if err != nil {
			t.Fatal(err)
		}
		if o == nil {
			wantDenied(t, "the answer of a user whose question it is not known to be", anna.manager("AnswerPrompt", number, "mine").Err)
			continue
		}
		if _, details := anna.prompt(path); details["uid"].Value() != system.Anna.UID {
			t.Errorf("they were told of uid %v", details["uid"])
		}
		if err := anna.manager("AnswerPrompt", number, "mine").Err; err != nil {
			t.Fatal(err)
		}
		wantPipe(t, pipe, "+mine")
	}
}

func TestPolkitLetsSomebodyConverse(t *testing.T) {
	b := start(t, system.MachineOptions{
		Policy: "[[rule]]\naction = \"converse\"\nservice = \"ft?\"\nverdict = \"polkit\"\n",
		Polkit: `polkit.addRule(function(action) {
	if (action.id == "org.pamprompt.converse" && action.lookup("service") == "ftp") return polkit.Result.YES;
});`,
	})
	agent := b.join(t, system.Agent)
	if _, err := converse(t, agent.Conn, "ftp", nil); err != nil {
		t.Errorf("whom polkit allows it: %v", err)
	}
	_, err := converse(t, agent.Conn, "ftq", nil)
	wantDenied(t, "as another service", err)
}

// One uid's questions do not fill the broker, and what it gives up makes room.
func TestAUIDHasSoManyQuestionsInItsConversations(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: converses})
	agent := b.join(t, system.Agent)
	path, err := converse(t, agent.Conn, "ftp", asAgent())
	if err != nil {
		t.Fatal(err)
	}
	var pipes []*os.File
	for range maxPrompts {
		_, pipe, err := ask(t, agent.Conn, path, api.StyleSecret, "?", nil)
		if err != nil {
			t.Fatal(err)
		}
		pipes = append(pipes, pipe)
	}
	_, _, err = ask(t, agent.Conn, path, api.StyleSecret, "?", nil)
	wantCode(t, "one question more", err, api.LimitExceeded)
	_ = pipes[3].Close()
	agent.await("PromptClosed")
	if _, _, err = ask(t, agent.Conn, path, api.StyleSecret, "?", nil); err != nil {
		t.Errorf("after one was given up: %v", err)
	}
	// Texts and questions together.
	for i := 0; ; i++ {
		if _, _, err = ask(t, agent.Conn, path, api.StyleInfo, "?", nil); err != nil {
			wantCode(t, "one text more", err, api.LimitExceeded)
			break
		}
		if i > 10000 {
			t.Fatal("a user tells whatever it likes")
		}
	}
	root, err := converse(t, b.root, "ftp", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, _, err := ask(t, b.root, root, api.StyleInfo, "?", nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAUIDOpensSoManyConversationsAtOnce(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: converses})
	agent := b.join(t, system.Agent)
	for i := 0; ; i++ {
		path, err := converse(t, agent.Conn, "ftp", nil)
		if err != nil {
			wantCode(t, "one conversation more", err, api.LimitExceeded)
			return
		}
		if err := agent.call(path, api.SessionInterface+".Close").Err; err != nil {
			t.Fatal(err)
		}
		if i > 10*burst {
			t.Fatal("a user opens as many as it likes")
		}
	}
}

func TestAConversationIsAudited(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: converses})
	agent, other := b.join(t, system.Agent), b.join(t, system.Other)
	from := len(b.Log())
	path, err := converse(t, agent.Conn, "ftp", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = converse(t, other.Conn, "ftp", nil)
	wantDenied(t, "another user", err)
	number, _, err := ask(t, agent.Conn, path, api.StyleSecret, "?", nil)
	if err = errors.Join(err, call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", number, answer).Err,
		agent.call(path, api.SessionInterface+".Close").Err); err != nil {
		t.Fatal(err)
	}
	about := map[string]string{"session": numberOf(path), "service": "ftp", "user": "anna"}
	with := func(more map[string]string) map[string]string {
		for name, value := range about {
			if _, set := more[name]; !set {
				more[name] = value
			}
		}
		return more
	}
	b.wantAudited(t, from,
		with(map[string]string{"event": "open", "caller-uid": "60003", "channel": "dbus"}),
		map[string]string{"event": "refusal", "action": "converse", "service": "ftp", "user": "anna", "caller-uid": "60002"},
		with(map[string]string{"event": "answer", "prompt": fmt.Sprint(number), "caller-uid": "0"}),
		with(map[string]string{"event": "close", "state": "closed", "why": "closed by uid 60003"}),
	)
}

// await waits for a signal of the broker.
func (p *person) await(member string) {
	p.t.Helper()
	for len(p.signals(member)) == 0 {
		p.settle()
	}
}
