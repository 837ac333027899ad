// SPDX-License-Identifier: Apache-2.0

package security

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// rounds is how often each call is timed, and factor how much longer what
// exists may take than what does not, or the other way round: by the shortest of
// each, which other programs on this computer disturb least.
const (
	rounds = 21
	factor = 2.0
)

// How long a refusal takes tells nothing either.
func TestARefusalTakesAsLongWhetherTheThingExists(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, func(t *testing.T, b *bench) {
		b.compareTimes(t, func(attempt) bool { return true })
	})
}

// polkit is asked the same questions where a rule here, or one in JavaScript,
// has decided already.
func TestARefusalByARuleTakesAsLong(t *testing.T) {
	const rule = `
[[rule]]
action = ["see", "answer", "manage"]
service = "` + service + `"
caller = "uid:60002"
verdict = "deny"
`
	const script = `polkit.addRule(function(action, subject) {
	if (action.lookup("service") == "` + service + `") return polkit.Result.NO;
});`
	// One of each kind: what is seen, managed, answered.
	kinds := []string{api.SessionInterface + ".Wait", api.SessionInterface + ".Close", "CancelPrompt"}
	for _, c := range []struct {
		name    string
		options system.MachineOptions
	}{
		{"a rule that denies", system.MachineOptions{Policy: rule}},
		{"a rule in JavaScript that denies", system.MachineOptions{Polkit: script}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t, c.options).compareTimes(t, func(a attempt) bool { return slices.Contains(kinds, a.name) })
		})
	}
}

// compareTimes compares how long another user's calls take.
func (b *bench) compareTimes(t *testing.T, wanted func(attempt) bool) {
	t.Helper()
	other := b.join(t, system.Other)
	session, prompt := b.vault(t)
	onSessions, onPrompts := attempts(t)
	for _, a := range onSessions {
		if wanted(a) {
			compareTimes(t, other, a, number(t, session))
		}
	}
	for _, a := range onPrompts {
		if wanted(a) {
			compareTimes(t, other, a, prompt)
		}
	}
}

func compareTimes(t *testing.T, p *person, a attempt, exists uint64) {
	t.Helper()
	took := map[uint64][]time.Duration{}
	for range rounds {
		for _, number := range []uint64{exists, nobody} {
			before := time.Now()
			err := a.call(p.Conn, number).Err
			took[number] = append(took[number], time.Since(before))
			if err == nil {
				t.Fatalf("%s of %d was not refused", a.name, number)
			}
		}
	}
	one, none := slices.Min(took[exists]), slices.Min(took[nobody])
	if ratio := float64(max(one, none)) / float64(min(one, none)); ratio > factor {
		t.Errorf("%s is refused after %v for what exists, %v for what does not", a.name, one, none)
	}
}

// TestPolkitIsAskedTheSameQuestionsWhetherTheThingExists: they are most of the
// time that a refusal takes, and what a slow polkit would tell.
func TestPolkitIsAskedTheSameQuestionsWhetherTheThingExists(t *testing.T) {
	const logs = `polkit.addRule(function(action, subject) {
	if (action.id.indexOf("org.pamprompt.") == 0) polkit.log("question " + action.id + ";");
});`
	for name, denies := range map[string]string{
		"no rule":            "",
		"a rule that denies": "[[rule]]\naction = [\"see\", \"answer\", \"manage\"]\nservice = \"" + service + "\"\nverdict = \"deny\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, system.MachineOptions{Polkit: logs, Policy: denies})
			other := b.join(t, system.Other)
			session, prompt := b.vault(t)
			onSessions, onPrompts := attempts(t)
			asked := func(a attempt, number uint64) string {
				from := len(b.Log())
				if a.call(other.Conn, number).Err == nil {
					t.Fatalf("%s of %d was not refused", a.name, number)
				}
				return strings.Join(questions.FindAllString(b.Log()[from:], -1), " ")
			}
			for exists, list := range map[uint64][]attempt{number(t, session): onSessions, prompt: onPrompts} {
				for _, a := range list {
					one, none := asked(a, exists), asked(a, nobody)
					if one != none || one == "" {
						t.Errorf("for %s polkit is asked %q about what exists, %q about what does not", a.name, one, none)
					}
				}
			}
		})
	}
}

// questions are what the rule of the test writes into the log.
var questions = regexp.MustCompile(`question org\.pamprompt\.[a-z-]+;`)
