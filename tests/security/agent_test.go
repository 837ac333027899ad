// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// operatorsAnswer lets a group answer what one service asks, whoever opened it.
const operatorsAnswer = `polkit.addRule(function(action, subject) {
	if (action.id == "org.pamprompt.answer-any" && action.lookup("service") == "` + service + `" &&
	    action.lookup("user") == "` + user + `" && subject.isInGroup("operators"))
		return polkit.Result.YES;
});`

func TestAnAgentAnswersWhatARuleOfPolkitLetsIt(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Polkit: operatorsAnswer}, func(t *testing.T, b *bench) {
		agent, other := b.join(t, system.Agent).agent(), b.join(t, system.Other).agent()
		session := open(t, b.root, service, user, options{"reason": dbus.MakeVariant(reason)})
		prompt, details := agent.prompt(session)
		if details["user"].Value() != user || details["reason"].Value() != reason {
			t.Errorf("the agent was told %v", details)
		}
		if uid, told := details["uid"]; told {
			t.Errorf("it was told the uid, %v: who has which is not its business", uid)
		}
		elsewhere := open(t, b.root, "ask", user, nil)
		second := b.asked(t, elsewhere)
		wantDenied(t, "an answer to another service's question", agent.manager("AnswerPrompt", second, "right").Err)
		wantDenied(t, "another user's answer", other.manager("AnswerPrompt", prompt, answer).Err)
		wantDenied(t, "an end by who may only answer", agent.call(session, api.SessionInterface+".Close").Err)
		b.asked(t, open(t, b.root, service, "other", nil)) // the service alone is not enough
		if listed := agent.prompts(t); !slices.Equal(listed, []dbus.ObjectPath{session}) {
			t.Errorf("it lists the prompts of %v, not of %s alone", listed, session)
		}
		if err := agent.manager("AnswerPrompt", prompt, answer).Err; err != nil {
			t.Fatalf("the agent's answer: %v", err)
		}
		if state, text := b.wait(t, session, api.StateOpen); state != api.StateOpen {
			t.Errorf("the session is %s: %s", state, text)
		}
		agent.settle()
		other.settle()
		if n := len(agent.signals("Prompt")); n != 1 {
			t.Errorf("the agent was told of %d prompts, and may answer one", n)
		}
		if n := len(agent.signals("PromptClosed")); n != 1 {
			t.Errorf("it was told of %d ends", n)
		}
		if n := len(other.signals("Prompt")) + len(other.signals("PromptClosed")) + len(other.signals("Message")); n != 0 {
			t.Errorf("another agent was told %d things", n)
		}
	})
}

// What polkit's rules say now counts, not what they said when the agent came.
func TestAnAgentThatPolkitNoMoreAllowsIsToldNothing(t *testing.T) {
	b := start(t, system.MachineOptions{Polkit: operatorsAnswer})
	agent := b.join(t, system.Agent).agent()
	first := open(t, b.root, service, user, nil)
	prompt, _ := agent.prompt(first)
	b.SetPolkitRules(t, "")
	wantDenied(t, "an answer to what it was told of before", agent.manager("AnswerPrompt", prompt, answer).Err)
	second := open(t, b.root, service, user, nil)
	next := b.asked(t, second)
	wantDenied(t, "the end of a prompt that came later", agent.manager("CancelPrompt", next).Err)
	var listed [][]any
	if err := agent.manager("ListPrompts").Store(&listed); err != nil || len(listed) != 0 {
		t.Errorf("it lists %v, %v", listed, err)
	}
	agent.settle()
	if n := len(agent.signals("Prompt")); n != 1 {
		t.Errorf("it was told of %d prompts, one of them before", n)
	}
}

// An agent is told of what waits when polkit says that its rules are others now.
func TestAnAgentThatPolkitAllowsLaterIsToldOfWhatWaits(t *testing.T) {
	b := start(t, system.MachineOptions{})
	agent, other := b.join(t, system.Agent).agent(), b.join(t, system.Other).agent()
	session, prompt := b.vault(t)
	b.SetPolkitRules(t, operatorsAnswer)
	if got, _ := agent.prompt(session); got != prompt {
		t.Errorf("the agent is told of prompt %d, not %d", got, prompt)
	}
	if err := agent.manager("AnswerPrompt", prompt, answer).Err; err != nil {
		t.Error(err)
	}
	wantCode(t, "a second answer", agent.manager("AnswerPrompt", prompt, answer).Err, api.AlreadyAnswered)
	wantDenied(t, "another user's answer", other.manager("AnswerPrompt", prompt, answer).Err)
	other.settle()
	if n := len(other.signals("Prompt")); n != 0 {
		t.Errorf("another agent was told of %d prompts", n)
	}
}

// A rule of our own, without polkit.
func TestAnAgentAnswersWhatARuleLetsIt(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: `
[[rule]]
action = ["see", "answer"]
service = "` + service + `"
caller = "group:operators"
verdict = "allow"
`}, func(t *testing.T, b *bench) {
		b.StopPolkit(t)
		agent := b.join(t, system.Agent).agent()
		session := open(t, b.root, service, user, nil)
		prompt, _ := agent.prompt(session)
		var sessions []struct {
			ID            uint64
			Service, User string
			Owner         uint32
			State         string
			Path          dbus.ObjectPath
		}
		if err := agent.manager("ListSessions").Store(&sessions); err != nil || len(sessions) != 1 || sessions[0].Path != session {
			t.Errorf("it sees the sessions %v, %v", sessions, err)
		}
		wantDenied(t, "an end", agent.call(session, api.SessionInterface+".Close").Err)
		if err := agent.manager("AnswerPrompt", prompt, answer).Err; err != nil {
			t.Fatal(err)
		}
		if state, text := b.wait(t, session, api.StateOpen); state != api.StateOpen {
			t.Errorf("the session is %s: %s", state, text)
		}
	})
}

// The defaults of the actions that are shipped: whoever sits at this computer
// answers what is asked about their own account, and nothing else.
func TestWhoSitsHereAnswersForTheirOwnAccount(t *testing.T) {
	for _, c := range []struct {
		name          string
		active, local bool
		user          string
		may           bool
	}{
		{"active, at a seat, about themselves", true, true, "anna", true},
		{"active, at a seat, about somebody else", true, true, "other", false},
		{"at a seat, while another session is shown", false, true, "anna", false},
		{"over the network", true, false, "anna", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, system.MachineOptions{})
			anna := b.join(t, system.Anna)
			b.Login(t, anna.User, c.active, c.local)
			anna.agent()
			session := open(t, b.root, "ask", c.user, nil)
			number := b.asked(t, session)
			listed := anna.prompts(t)
			if !c.may {
				if len(listed) != 0 {
					t.Errorf("they list the prompts of %v", listed)
				}
				wantDenied(t, "the answer", anna.manager("AnswerPrompt", number, "right").Err)
				anna.settle()
				if n := len(anna.signals("Prompt")); n != 0 {
					t.Errorf("they were told of %d prompts", n)
				}
				return
			}
			if !slices.Equal(listed, []dbus.ObjectPath{session}) {
				t.Errorf("they list the prompts of %v", listed)
			}
			prompt, details := anna.prompt(session)
			if details["uid"].Value() != system.Anna.UID {
				t.Errorf("they were told of uid %v, which is their own", details["uid"])
			}
			if err := anna.manager("AnswerPrompt", prompt, "right").Err; err != nil {
				t.Fatal(err)
			}
			b.wait(t, session, api.StateOpen)
			wantDenied(t, "the end of a session that is not theirs", anna.call(session, api.SessionInterface+".Close").Err)
		})
	}
}

// An agent that leaves while it is asked whether it may know is told nothing,
// and nobody is who has its number next.
func TestAnAgentThatLeavesIsForgotten(t *testing.T) {
	b := start(t, system.MachineOptions{Polkit: operatorsAnswer})
	b.FreezePolkit(t)
	agent := b.join(t, system.Agent).agent()
	session := open(t, b.root, service, user, nil)
	b.asked(t, session)
	agent.Leave(t)
	b.ThawPolkit(t)
	next := b.join(t, system.Agent).agent()
	if prompt, _ := next.prompt(session); prompt == 0 {
		t.Error("the prompt has no number")
	}
	if n := countAgents(t, b); n != 1 {
		t.Errorf("there are %d agents", n)
	}
}

// prompts are the sessions of those that somebody may answer.
func (p *person) prompts(t *testing.T) []dbus.ObjectPath {
	t.Helper()
	var list []struct {
		Number         uint64
		Session        dbus.ObjectPath
		Style, Message string
		Details        map[string]dbus.Variant
	}
	if err := p.manager("ListPrompts").Store(&list); err != nil {
		t.Fatal(err)
	}
	var paths []dbus.ObjectPath
	for _, one := range list {
		paths = append(paths, one.Session)
	}
	return paths
}

func countAgents(t *testing.T, b *bench) (n uint32) {
	t.Helper()
	var value dbus.Variant
	if err := call(b.root, api.RootPath, "org.freedesktop.DBus.Properties.Get", api.ManagerInterface, "Agents").Store(&value); err != nil {
		t.Fatal(err)
	}
	if err := value.Store(&n); err != nil {
		t.Fatal(fmt.Errorf("property Agents: %w", err))
	}
	return n
}
