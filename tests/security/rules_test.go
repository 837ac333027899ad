// SPDX-License-Identifier: Apache-2.0

package security

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// A broker reads its rules again on SIGHUP. What it cannot read changes
// nothing, and it says where.
func TestSIGHUPReadsTheRulesAgain(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener, other := b.join(t, system.Opener), b.join(t, system.Other)
	may := func(p *person) bool { return p.manager("OpenSession", "permit", "anna", options{}).Err == nil }
	if !may(opener) || may(other) {
		t.Fatal("the first rules do not count")
	}
	for _, c := range []struct {
		name, text    string
		opener, other bool
	}{
		{"others", strings.ReplaceAll(opens, "60001", "60002"), false, true},
		{"not TOML", "[[rule", false, true},
		{"a key that there is not", opens + "colour = 1\n", false, true},
		{"the first again", opens, true, false},
		{"none", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := reloads(b.Log())
			b.WriteRules(t, "test.toml", c.text)
			b.Signal(t, syscall.SIGHUP)
			b.AwaitLog(t, func(log string) bool { return reloads(log) > before })
			if got := may(opener); got != c.opener {
				t.Errorf("the opener may: %v", got)
			}
			if got := may(other); got != c.other {
				t.Errorf("the other may: %v", got)
			}
		})
	}
	for _, text := range []string{"test.toml:1", "test.toml:13"} {
		if !strings.Contains(b.Log(), text) {
			t.Errorf("the log does not name %s", text)
		}
	}
}

// reloads is how often a broker has read its rules again, and said so.
func reloads(log string) int {
	return strings.Count(log, "rules reloaded") + strings.Count(log, "those that were read before stay in force")
}

// A broker that cannot read its rules at first has none. It denies, also what
// polkit and the defaults would allow: a rule that it has not read may be one
// that denies. Mended, they count.
func TestABrokerWithRulesThatCannotBeReadDenies(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens + "colour = 1\n", Polkit: everything})
	opener := b.join(t, system.Opener)
	session, prompt := b.vault(t)
	for what, try := range map[string]func() error{
		"to open":        func() error { return opener.manager("OpenSession", "permit", "anna", options{}).Err },
		"to be an agent": func() error { return opener.manager("RegisterAgent", options{}).Err },
		"to see":         func() error { return opener.call(session, api.SessionInterface+".Wait", api.StateOpening).Err },
		"to end":         func() error { return opener.call(session, api.SessionInterface+".Close").Err },
		"to answer":      func() error { return opener.manager("AnswerPrompt", prompt, answer).Err },
	} {
		wantDenied(t, what, try())
	}
	if paths := opener.sessions(t); len(paths) != 0 {
		t.Errorf("it sees %v", paths)
	}
	open(t, b.root, "permit", "anna", nil)
	b.WriteRules(t, "test.toml", opens)
	b.Signal(t, syscall.SIGHUP)
	b.AwaitLog(t, func(log string) bool { return reloads(log) > 0 })
	opener.agent()
	opener.open("permit", "anna", nil)
	if got, _ := opener.prompt(session); got != prompt {
		t.Errorf("with rules it is told of prompt %d, not %d", got, prompt)
	}
}

// Agents are judged by the new rules too, by those that want to know more of
// them, and are told of what waits.
func TestAgentsFollowTheRulesThatAreReadAgain(t *testing.T) {
	const answers = `
[[rule]]
action = "answer"
service = "ask"
user = "@self"
verdict = "allow"
`
	b := start(t, system.MachineOptions{Polkit: `polkit.addRule(function() { return polkit.Result.NO; });`})
	anna, other := b.join(t, system.Anna).agent(), b.join(t, system.Other).agent()
	first := open(t, b.root, "ask", "anna", nil)
	waiting := b.asked(t, first)
	reload := func(text string) {
		t.Helper()
		before := reloads(b.Log())
		b.WriteRules(t, "test.toml", text)
		b.Signal(t, syscall.SIGHUP)
		b.AwaitLog(t, func(log string) bool { return reloads(log) > before })
	}
	reload(answers)
	if got, _ := anna.prompt(first); got != waiting {
		t.Errorf("the agent is told of prompt %d, not %d", got, waiting)
	}
	anna.prompt(open(t, b.root, "ask", "anna", nil))
	reload("")
	b.asked(t, open(t, b.root, "ask", "anna", nil))
	anna.settle()
	if n := len(anna.signals("Prompt")); n != 2 {
		t.Errorf("the agent was told of %d prompts, two of them while it was allowed", n)
	}
	other.settle()
	if n := len(other.signals("Prompt")); n != 0 {
		t.Errorf("another agent was told of %d prompts", n)
	}
}

// A rule with @self is for the account that the broker takes the user for. What
// NSS says of the name a moment later is another user, and gets no session.
func TestASessionIsForTheAccountThatTheRulesMeant(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: `
[[rule]]
action = "open"
service = "permit"
user = "@self"
verdict = "allow"
`})
	opener := b.join(t, system.Opener)
	wantDenied(t, "somebody else's session", opener.manager("OpenSession", "permit", "other", options{}).Err)
	if state, text := b.wait(t, opener.open("permit", "opener", nil), api.StateOpen); state != api.StateOpen {
		t.Fatalf("its own session is %s: %s", state, text)
	}
	path := filepath.Join(b.Etc, "passwd")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.NewReplacer("opener:x:60001:", "other:x:60001:", "other:x:60002:", "opener:x:60002:").Replace(string(raw))
	if err := os.WriteFile(path, []byte(swapped), 0o644); err != nil {
		t.Fatal(err)
	}
	var id uint64
	var session dbus.ObjectPath
	if err := opener.manager("OpenSession", "permit", "opener", options{"linger": dbus.MakeVariant(true)}).Store(&id, &session); err != nil {
		wantDenied(t, "a session by a name that is another's now", err) // if the broker has asked again meanwhile
		return
	}
	if state, text := b.wait(t, session, api.StateOpen); state != api.StateFailed {
		t.Errorf("the session of another user is %s: %s", state, text)
	}
}
