// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseTakesWhatTOMLTakes(t *testing.T) {
	r, err := Parse("f", []byte("# the first\r\n\n  [[ rule ]] # here\n\"action\" = '''open'''\nservice = \"a\\u0062\"\nverdict=\"\\u0061llow\"\n"+
		"[[rule]]\naction = [\n  \"see\", # one\n  'answer',\n]\nuser = 'DOM\\anna'\ncaller = [\"uid:1\", \"group:a b\", 'unit:dev-a\\x2db.device']\nverdict = \"deny\""))
	if err != nil || len(r.rules) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	first, second := r.rules[0], r.rules[1]
	if first.line != 3 || !first.actions[Open] || first.service.literal != "ab" || first.verdict != Allow || first.callers != nil {
		t.Errorf("the first rule is %+v", first)
	}
	if second.line != 7 || !second.actions[See] || !second.actions[Answer] || second.actions[Open] || second.user.literal != `DOM\anna` ||
		len(second.callers) != 3 || second.callers[2].unit.literal != `dev-a\x2db.device` || second.verdict != Deny {
		t.Errorf("the second rule is %+v", second)
	}
	for _, empty := range []string{"", "\n# nothing\n"} {
		if r, err := Parse("f", []byte(empty)); err != nil || len(r.rules) != 0 {
			t.Errorf("%q: %v, %v", empty, r, err)
		}
	}
}

// TestParseErrors has the lines of a file, and the error without the file.
func TestParseErrors(t *testing.T) {
	rule := func(lines ...string) string { return "[[rule]]\n" + strings.Join(lines, "\n") }
	const see, deny, allow = `action = "see"`, `verdict = "deny"`, `verdict = "allow"`
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ name, text, want string }{
		{"no TOML", rule(see, "verdict = deny"), "3: "},
		{"a string without an end", rule(see, `verdict = "deny`), "3: "},
		{"a table without an end", "[[rule]\n" + see, "1: "},
		{"not UTF-8", rule(see, deny, "# \xff"), "4: the text is not UTF-8"},
		{"an unknown key", rule(see, `servise = "x"`, deny), `3: there is no key "servise": a rule has action, service, user, caller, verdict`},
		{"a key in capitals", rule(`Action = "see"`, deny), `2: there is no key "Action"`},
		{"a key of two parts", rule(`action.x = "see"`, deny), `2: there is no key "action.x"`},
		{"a key with a dot in it", rule(`"action.x" = "see"`, deny), `2: there is no key "action.x"`},
		{"a key before the rules", see + "\n" + rule(deny), `1: "action" stands before the first [[rule]]`},
		{"rules in one line", `rule = [{action = "see", verdict = "deny"}]`, `1: "rule" stands before the first [[rule]]`},
		{"one bracket", "\n[rule]\n" + see, "2: a rule begins with [[rule]], in two brackets"},
		{"another table", rule(see, deny) + "\n[x]", `4: there is no table "x": a file has only [[rule]]`},
		{"another array of tables", "[[rules]]", `1: there is no table "rules"`},
		{"a table in a rule", rule(see, deny, "[rule.caller]"), `4: there is no table "rule.caller"`},
		{"an array of tables in a rule", rule(see, deny, "[[rule.caller]]"), `4: there is no table "rule.caller"`},
		{"a key twice", rule(see, deny, see), "4: the rule has a second action"},
		{"a number", rule("action = 1", deny), "2: action is Integer: it takes a string"},
		{"a table for a word", rule(see, deny, "caller = {uid = 1}"), "4: caller is InlineTable: it takes a string"},
		{"a boolean", rule(see, "verdict = true"), "3: verdict is Bool"},
		{"a number in an array", rule(see, deny, `caller = ["uid:1", 1]`), "4: caller has Integer in its array: it takes strings"},
		{"an array in an array", rule(`action = [["see"]]`, deny), "2: action has Array in its array"},
		{"an array of services", rule(see, deny, `service = ["a", "b"]`), "4: service is an array: it takes one string"},
		{"an array of verdicts", rule(see, `verdict = ["deny"]`), "3: verdict is an array"},
		{"no action", "\n" + rule(deny), "2: the rule has no action"},
		{"no verdict", rule(see), "1: the rule has no verdict"},
		{"an empty rule after a good one", rule(see, deny) + "\n[[rule]]", "4: the rule has no action"},
		{"an unknown action", rule(`action = "opne"`, deny), `2: action: "opne" is none of open, see, answer, manage, agent`},
		{"an action in capitals", rule(`action = "See"`, deny), `2: action: "See" is none of`},
		{"an empty array of actions", rule(`action = []`, deny), "2: action is an empty array"},
		{"an unknown verdict", rule(see, `verdict = "yes"`), `3: verdict: "yes" is none of allow, deny, polkit`},
		{"an empty service", rule(see, deny, `service = ""`), "4: service: the pattern is empty"},
		{"a service in capitals", rule(see, deny, `service = "Login"`), `4: service: "Login" is no pattern of a file of /etc/pam.d`},
		{"a service with a slash", rule(see, deny, `service = "../login"`), `4: service: "../login" is no pattern`},
		{"a service with a class", rule(see, deny, `service = "[a-z]"`), `4: service: "[a-z]" is no pattern`},
		{"a service of letters that look like others", rule(see, deny, `service = "lоgin"`), `4: service: "lоgin" is no pattern`},
		{"a service with two stars", rule(see, deny, `service = "a**"`), `4: service: the pattern "a**" holds **`},
		{"a long service", rule(see, deny, `service = "`+long+`"`), "4: service: the pattern is 256 bytes long, at most 255 are allowed"},
		{"an escape in a literal string", rule(see, deny, `service = 'a\u0062'`), `4: service: "a\\u0062" is no pattern`},
		{"an empty user", rule(see, deny, `user = ""`), "4: user: the pattern is empty"},
		{"a user with a class", rule(see, deny, `user = "anna[12]"`), `4: user: the pattern "anna[12]" holds one of [ ] { }`},
		{"a user with alternatives", rule(see, deny, `user = "{anna,bert}"`), `4: user: the pattern "{anna,bert}" holds one of`},
		{"a user with a control character", rule(see, deny, `user = "anna\n"`), `4: user: the pattern "anna\n" holds a control character`},
		{"a path for a user", rule(see, deny, `user = "/home/*"`), `4: user: "/home/*" is no pattern of a user: it holds a slash or a colon`},
		{"another word with @", rule(see, deny, `user = "@users"`), `4: user: "@users" is no user: only @self starts with @`},
		{"no callers", rule(see, deny, `caller = []`), "4: caller is an empty array"},
		{"an empty caller", rule(see, deny, `caller = ""`), `4: caller: "" is none of uid:NUMBER`},
		{"a caller without a kind", rule(see, deny, `caller = "1000"`), `4: caller: "1000" is none of uid:NUMBER`},
		{"a caller of nothing", rule(see, deny, `caller = "uid:"`), `4: caller: "uid:" is none of uid:NUMBER`},
		{"a caller of another kind", rule(see, deny, `caller = "user:anna"`), `4: caller: "user:anna": is of the kind "user", which is none of uid, group, unit`},
		{"a uid that is a name", rule(see, deny, `caller = "uid:anna"`), `4: caller: "uid:anna": is not a number from 0 to 4294967294`},
		{"a negative uid", rule(see, deny, `caller = "uid:-1"`), `4: caller: "uid:-1": is not a number`},
		{"a uid with a sign", rule(see, deny, `caller = "uid:+1"`), `4: caller: "uid:+1": is not a number`},
		{"a uid in octal", rule(see, deny, `caller = "uid:01000"`), `4: caller: "uid:01000": is not a number`},
		{"the uid that is none", rule(see, deny, `caller = "uid:4294967295"`), `4: caller: "uid:4294967295": is not a number`},
		{"a uid that would wrap", rule(see, deny, `caller = "uid:4294968296"`), `4: caller: "uid:4294968296": is not a number`},
		{"root, who needs no rule", rule(see, allow, `caller = "uid:0"`), `4: caller: "uid:0": is always allowed everything`},
		{"a pattern of groups", rule(see, deny, `caller = "group:a*"`), `4: caller: "group:a*": is no name of a group`},
		{"a group that is none", rule(see, deny, `caller = "group:4294967295"`), `4: caller: "group:4294967295": is not a number`},
		{"a unit without a suffix", rule(see, deny, `caller = "unit:backup"`), `4: caller: "unit:backup": has no suffix: did you mean backup.service`},
		{"the path of a unit", rule(see, deny, `caller = "unit:/system.slice/a.service"`), `4: caller: "unit:/system.slice/a.service": holds a slash`},
		{"every unit", rule(see, allow, `caller = "unit:*"`), `4: caller: "unit:*": names no unit`},
		{"a unit with a class", rule(see, deny, `caller = "unit:a[1].service"`), `4: caller: "unit:a[1].service": the pattern`},
		{"open to every service", rule(`action = "open"`, allow), "1: a rule that lets somebody open, run or converse must name the service"},
		{"run with every service", rule(`action = "run"`, `verdict = "polkit"`), "1: a rule that lets somebody open, run or converse must name the service"},
		{"converse as every service", rule(`action = "converse"`, allow), "1: a rule that lets somebody open, run or converse must name the service"},
		{"open to a star", rule(`action = ["see", "open"]`, `service = "*"`, allow), "1: a rule that lets somebody open, run or converse must name the service"},
		{"open to a pattern of no letters", rule(`action = "open"`, `service = "?*-*"`, `verdict = "polkit"`), "1: a rule that lets somebody open, run or converse must name the service"},
		{"an agent for a service", rule(`action = "agent"`, `service = "x"`, deny), "1: a rule for agent has no service and no user"},
		{"an agent for a user", rule(`action = ["agent", "see"]`, `user = "@self"`, deny), "1: a rule for agent has no service and no user"},
		{"an agent by polkit", rule(`action = "agent"`, `verdict = "polkit"`), "1: there is no polkit action for agent"},
		{"too many rules", strings.Repeat(rule(see, deny)+"\n", maxRules+1), fmt.Sprint(3*maxRules+1, ": there are more than 4096 rules")},
		{"too many bytes", strings.Repeat("#", maxFile+1), "1: the file has more than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse("f.toml", []byte(c.text))
			if err == nil {
				t.Fatalf("%+v", r)
			}
			if got := err.Error(); !strings.HasPrefix(got, "f.toml:"+c.want) || r != nil {
				t.Errorf("%q\nwant %q", got, "f.toml:"+c.want)
			}
		})
	}
}

func TestParseTakesTheLargestFiles(t *testing.T) {
	text := strings.Repeat("[[rule]]\naction=\"see\"\nverdict=\"deny\"\n", maxRules)
	text += strings.Repeat("#", maxFile-len(text))
	if r, err := Parse("f", []byte(text)); err != nil || len(r.rules) != maxRules {
		t.Error(err)
	}
}

// matchesSlowly is what a glob means.
func matchesSlowly(pattern, name []rune) bool {
	switch {
	case len(pattern) == 0:
		return len(name) == 0
	case pattern[0] == '*':
		return matchesSlowly(pattern[1:], name) || len(name) > 0 && matchesSlowly(pattern, name[1:])
	case len(name) == 0:
		return false
	}
	return (pattern[0] == '?' || pattern[0] == name[0]) && matchesSlowly(pattern[1:], name[1:])
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a*", "a\nb", true}, {"a?b", "a\nb", true}, {"a?", "a", false}, {"a*", "ba", false}, {"*a", "ab", false},
		{"?", "ä", true}, {"a", "A", false}, {"a.c", "abc", false}, {"*", "", true}, {"?*", "", false},
	} {
		if g, err := parseGlob(c.pattern); err != nil || g.matches(c.name) != c.want {
			t.Errorf("%q matches %q: not %v (%v)", c.pattern, c.name, c.want, err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune(`ab.+\$^|()ä*?`)), 1, 8, -1).Draw(rt, "pattern")
		name := rapid.StringOfN(rapid.RuneFrom([]rune("ab.+\\$^|()ä\n")), 0, 8, -1).Draw(rt, "name")
		g, err := parseGlob(pattern)
		if strings.Contains(pattern, "**") != (err != nil) {
			rt.Fatalf("%q: %v", pattern, err)
		}
		if err == nil && g.matches(name) != matchesSlowly([]rune(pattern), []rune(name)) {
			rt.Errorf("%q matches %q: %v", pattern, name, g.matches(name))
		}
	})
}

var startsWithLine = regexp.MustCompile(`^f:([0-9]+): .`)

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse("f", text)
		if err != nil {
			m := startsWithLine.FindStringSubmatch(err.Error())
			if m == nil || r != nil {
				t.Fatalf("%v and %q", r, err)
			}
			if line, _ := strconv.Atoi(m[1]); line < 1 || line > 1+bytes.Count(text, []byte("\n")) {
				t.Fatalf("%q: no such line", err)
			}
			return
		}
		lines := bytes.Split(text, []byte("\n"))
		for i, rule := range r.rules {
			if line := lines[rule.line-1]; !bytes.Contains(line, []byte("rule")) || !bytes.Contains(line, []byte("[[")) {
				t.Errorf("rule %d begins on line %d, which is %q", i, rule.line, line)
			}
		}
		// Whatever the rules are: no service without a letter or digit in its
		// name is open to anybody, who is nobody gets nothing, and the owner keeps
		// its own.
		for _, service := range []string{"", "-", "_.@:+-"} {
			if d := r.Decide(anna, Open, Object{Service: service, User: "anna"}); d.Verdict != Deny {
				t.Errorf("opening %q is %s (%s)", service, d.Verdict, d.Why)
			}
		}
		if d := r.Decide(Caller{}, Answer, forAnna); d.Verdict != Deny {
			t.Errorf("nobody may: %s", d.Why)
		}
		if d := r.Decide(anna, Manage, annas); d.Verdict != Allow {
			t.Errorf("the owner may not: %s", d.Why)
		}
	})
}
