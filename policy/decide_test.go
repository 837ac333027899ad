// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// parse is Parse of rules that are right. Each rule is on lines of its own, of
// which the first is [[rule]].
func parse(t testing.TB, rules ...string) *Rules {
	t.Helper()
	r, err := Parse("f", []byte("[[rule]]\n"+strings.Join(rules, "\n[[rule]]\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	root     = Caller{UID: 0, Admin: true}
	anna     = Caller{UID: 1000, Groups: []uint32{1000, 27}, Name: "anna", Unit: "backup.service"}
	bert     = Caller{UID: 1001, Groups: []uint32{1001}, Name: "bert", Unit: "cron.service"}
	toAnna   = Object{Service: "backup", User: "anna", UserKnown: true, UserUID: 1000}
	annas    = Object{Exists: true, OwnerUID: 1000, Service: "backup", User: "anna", UserKnown: true, UserUID: 1000}
	roots    = Object{Exists: true, OwnerUID: 0, Service: "backup", User: "carl", UserKnown: true, UserUID: 1002}
	forAnna  = Object{Exists: true, OwnerUID: 0, Service: "backup", User: "anna", UserKnown: true, UserUID: 1000}
	unheard  = Object{Exists: true, OwnerUID: 0, Service: "backup", User: "anna"}
	nothing  = Object{}
	allowAll = `action = ["see", "answer", "manage"]` + "\nverdict = \"allow\""
	denyAll  = `action = ["open", "see", "answer", "manage"]` + "\nverdict = \"deny\""
)

func TestDecideByDefault(t *testing.T) {
	for _, c := range []struct {
		name   string
		caller Caller
		action Action
		object Object
		want   Verdict
		polkit string
	}{
		{"the admin opens a session", root, Open, toAnna, Allow, ""},
		{"the admin sees what does not exist", root, See, nothing, Allow, ""},
		{"the admin without uid 0, on a private bus", Caller{UID: 1000, Admin: true}, Manage, roots, Allow, ""},
		{"a user opens no session", anna, Open, toAnna, Deny, ""},
		{"the owner sees its session", anna, See, annas, Allow, ""},
		{"the owner answers its session's prompts", anna, Answer, annas, Allow, ""},
		{"the owner closes its session", anna, Manage, annas, Allow, ""},
		{"another user asks polkit to see", bert, See, annas, Polkit, PolkitList},
		{"another user asks polkit to answer", bert, Answer, annas, Polkit, PolkitAnswerAny},
		{"another user asks polkit to close", bert, Manage, annas, Polkit, PolkitManage},
		{"about one's own account there are two ways", anna, Answer, forAnna, Polkit, PolkitAnswerOwn + " " + PolkitAnswerAny},
		{"a uid that is not known to be the user's is not one's own", anna, Answer, Object{Exists: true, UserUID: 1000}, Polkit, PolkitAnswerAny},
		{"an account whose uid nobody knows is not one's own, whatever its name", anna, Answer, unheard, Polkit, PolkitAnswerAny},
		{"what does not exist is asked for like what does", bert, See, nothing, Polkit, PolkitList},
		{"its prompts too", bert, Answer, nothing, Polkit, PolkitAnswerAny},
		{"and to close it", bert, Manage, nothing, Polkit, PolkitManage},
		{"what does not exist belongs to nobody", anna, Manage, Object{OwnerUID: 1000}, Polkit, PolkitManage},
		{"what does not exist is about nobody", anna, Answer, Object{UserKnown: true, UserUID: 1000}, Polkit, PolkitAnswerAny},
		{"a user runs nothing", anna, Run, toAnna, Deny, ""},
		{"the admin runs a command", root, Run, toAnna, Allow, ""},
		{"uid 0 without the mark runs nothing", Caller{}, Run, toAnna, Deny, ""},
		{"a user asks nothing", anna, Converse, toAnna, Deny, ""},
		{"a user asks nothing about its own account", anna, Converse, annas, Deny, ""},
		{"the admin asks", root, Converse, toAnna, Allow, ""},
		{"uid 0 without the mark asks nothing", Caller{}, Converse, toAnna, Deny, ""},
		{"everybody may be an agent", bert, Agent, nothing, Allow, ""},
		{"uid 0 without the mark is nobody", Caller{}, Agent, nothing, Deny, ""},
		{"uid 0 without the mark owns nothing", Caller{}, See, roots, Deny, ""},
		{"the uid that is none is nobody", Caller{UID: noUID}, Answer, Object{Exists: true, OwnerUID: noUID}, Deny, ""},
		{"a uid above INT_MAX is a user like others", Caller{UID: 4000000000}, Open, toAnna, Deny, ""},
		{"an action that is none is refused", anna, 0, annas, Deny, ""},
		{"an action of a later version is refused", anna, 99, annas, Deny, ""},
		{"a negative action is refused", anna, -1, annas, Deny, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := parse(t, "action = [\"open\", \"run\", \"see\", \"answer\", \"manage\"]\nservice = \"other\"\nverdict = \"allow\"")
			for name, r := range map[string]*Rules{"nil": nil, "no rules": {}, "other rules": other} {
				got := r.Decide(c.caller, c.action, c.object)
				if got.Verdict != c.want || strings.Join(got.Polkit, " ") != c.polkit || got.Why == "" {
					t.Errorf("%s: %s %q (%s), want %s %q", name, got.Verdict, got.Polkit, got.Why, c.want, c.polkit)
				}
			}
		})
	}
}

func TestDecideByRules(t *testing.T) {
	open := func(rest string) string { return "action = \"open\"\nservice = \"backup\"\n" + rest }
	converse := func(rest string) string { return "action = \"converse\"\nservice = \"backup\"\n" + rest }
	run := func(rest string) string { return "action = \"run\"\nservice = \"backup\"\n" + rest }
	const allow, deny, polkit = "\nverdict = \"allow\"", "\nverdict = \"deny\"", "\nverdict = \"polkit\""
	somewhere := Caller{UID: 1000, Groups: []uint32{1000}} // neither name nor unit
	for _, c := range []struct {
		name   string
		rules  []string
		caller Caller
		action Action
		object Object
		want   string // the verdict, and the line or "default"
	}{
		{"a rule for everybody", []string{open(allow)}, bert, Open, toAnna, "allow 1"},
		{"of another service", []string{open(allow)}, bert, Open, Object{Service: "login", User: "anna"}, "deny default"},
		{"of another action", []string{open(allow)}, bert, See, annas, "polkit default"},
		{"the first that matches", []string{open("user = \"b*\"" + allow), open(deny), open(allow)}, anna, Open, toAnna, "deny 6"},
		{"the admin needs no rule", []string{open(deny)}, root, Open, toAnna, "allow"},
		{"one's own session needs none", []string{denyAll}, anna, Answer, annas, "allow"},
		{"no rule is about what does not exist", []string{denyAll}, bert, Answer, nothing, "polkit default"},
		{"nor allows it", []string{allowAll}, bert, Manage, nothing, "polkit default"},
		{"polkit for opening", []string{open(polkit)}, bert, Open, toAnna, "polkit 1 " + PolkitOpen},
		{"who may open may not run", []string{open(allow)}, bert, Run, toAnna, "deny default"},
		{"who may run may not open", []string{run(allow)}, bert, Open, toAnna, "deny default"},
		{"who may open may not converse", []string{open(allow), run(allow)}, bert, Converse, toAnna, "deny default"},
		{"who may converse may not open", []string{converse(allow)}, bert, Open, toAnna, "deny default"},
		{"who may converse may not run", []string{converse(allow)}, bert, Run, toAnna, "deny default"},
		{"who may converse", []string{converse(allow)}, bert, Converse, toAnna, "allow 1"},
		{"as another service", []string{converse(allow)}, bert, Converse, Object{Service: "login", User: "anna"}, "deny default"},
		{"polkit for conversing", []string{converse(polkit)}, bert, Converse, toAnna, "polkit 1 " + PolkitConverse},
		{"who may run", []string{run(allow)}, bert, Run, toAnna, "allow 1"},
		{"polkit for running", []string{run(polkit)}, bert, Run, toAnna, "polkit 1 " + PolkitRun},
		{"both in one rule are each their own", []string{"action = [\"open\", \"run\"]\nservice = \"backup\"" + polkit}, bert, Open, toAnna, "polkit 1 " + PolkitOpen},
		{"polkit for one's own account", []string{"action = \"answer\"" + polkit}, anna, Answer, forAnna, "polkit 1 " + PolkitAnswerOwn},
		{"polkit to see", []string{"action = \"see\"" + polkit}, bert, See, annas, "polkit 1 " + PolkitList},
		{"an agent is denied", []string{"action = \"agent\"\ncaller = \"uid:1001\"" + deny}, bert, Agent, nothing, "deny 1"},
		{"another is not", []string{"action = \"agent\"\ncaller = \"uid:1001\"" + deny}, anna, Agent, nothing, "allow default"},
		{"a rule for rooms of uids above INT_MAX", []string{open("caller = \"uid:4294967294\"" + allow)}, Caller{UID: 4294967294}, Open, toAnna, "allow 1"},
		{"by uid", []string{open("caller = \"uid:1000\"" + allow)}, anna, Open, toAnna, "allow 1"},
		{"by another uid", []string{open("caller = \"uid:1000\"" + allow)}, bert, Open, toAnna, "deny default"},
		{"by group", []string{open("caller = \"group:27\"" + allow)}, anna, Open, toAnna, "allow 1"},
		{"by another group", []string{open("caller = \"group:27\"" + allow)}, bert, Open, toAnna, "deny default"},
		{"a uid is no group", []string{open("caller = \"group:1001\"" + allow)}, Caller{UID: 1001}, Open, toAnna, "deny default"},
		{"a group without a number is nobody's", []string{open("caller = \"group:sudo\"" + allow)}, Caller{UID: 1000, Groups: []uint32{0, 27}}, Open, toAnna, "deny default"},
		{"by unit", []string{open("caller = \"unit:back*.service\"" + allow)}, anna, Open, toAnna, "allow 1"},
		{"by another unit", []string{open("caller = \"unit:back*.service\"" + allow)}, bert, Open, toAnna, "deny default"},
		{"by one of several", []string{open("caller = [\"uid:7\", \"group:27\"]" + allow)}, anna, Open, toAnna, "allow 1"},
		{"an unknown unit is not allowed", []string{open("caller = \"unit:*.service\"" + allow)}, somewhere, Open, toAnna, "deny default"},
		{"an unknown unit is denied", []string{open("caller = \"unit:x.service\"" + deny), open(allow)}, somewhere, Open, toAnna, "deny 1"},
		{"a known one is not", []string{open("caller = \"unit:x.service\"" + deny), open(allow)}, anna, Open, toAnna, "allow 6"},
		{"an unknown unit is for polkit to allow", []string{open("caller = \"unit:x.service\"" + polkit), open(allow)}, somewhere, Open, toAnna, "polkit 1"},
		{"and to allow only", []string{open("caller = \"unit:x.service\"" + polkit), open(deny)}, somewhere, Open, toAnna, "deny 6"},
		{"a uid makes an unknown unit known enough", []string{open("caller = [\"unit:x.service\", \"uid:1000\"]" + allow)}, somewhere, Open, toAnna, "allow 1"},
		{"itself by uid", []string{open("user = \"@self\"" + allow)}, anna, Open, toAnna, "allow 1"},
		{"itself by name", []string{open("user = \"@self\"" + allow)}, anna, Open, Object{Service: "backup", User: "anna"}, "allow 1"},
		{"somebody else", []string{open("user = \"@self\"" + allow)}, bert, Open, toAnna, "deny default"},
		{"somebody else by name", []string{open("user = \"@self\"" + allow)}, bert, Open, Object{Service: "backup", User: "anna"}, "deny default"},
		{"a namesake with another uid", []string{open("user = \"@self\"" + allow)}, Caller{UID: 7, Name: "anna"}, Open, toAnna, "deny default"},
		{"no name and no user", []string{open("user = \"@self\"" + allow)}, somewhere, Open, Object{Service: "backup"}, "deny default"},
		{"perhaps itself is not allowed", []string{open("user = \"@self\"" + allow)}, somewhere, Open, Object{Service: "backup", User: "anna"}, "deny default"},
		{"perhaps itself is denied", []string{open("user = \"@self\"" + deny), open(allow)}, somewhere, Open, Object{Service: "backup", User: "anna"}, "deny 1"},
		{"every part has to match", []string{open("user = \"anna\"\ncaller = \"uid:1001\"" + allow)}, bert, Open, Object{Service: "backup", User: "carl"}, "deny default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, c.rules...).Decide(c.caller, c.action, c.object)
			got := d.Verdict.String()
			if line, ok := strings.CutPrefix(d.Why, "rule f:"); ok {
				got += " " + line
			} else if strings.HasPrefix(d.Why, "no rule matches") {
				got += " default"
			}
			if d.Polkit != nil {
				got += " " + strings.Join(d.Polkit, " ")
			}
			if !strings.HasPrefix(got+" ", c.want+" ") {
				t.Errorf("%s (%s), want %s", got, d.Why, c.want)
			}
			if (d.Verdict == Polkit) != (len(d.Polkit) > 0) {
				t.Errorf("%s with %d actions of polkit", d.Verdict, len(d.Polkit))
			}
		})
	}
}

func TestClosed(t *testing.T) {
	r := Closed("the reason")
	for a := Open; a <= last; a++ {
		if d := r.Decide(bert, a, annas); d.Verdict != Deny || d.Why != "the reason" {
			t.Errorf("%s is %s (%s)", a, d.Verdict, d.Why)
		}
		if d := r.Decide(root, a, annas); d.Verdict != Allow {
			t.Errorf("%s of the admin is %s (%s)", a, d.Verdict, d.Why)
		}
	}
	if d := r.Decide(anna, Manage, annas); d.Verdict != Allow {
		t.Errorf("the owner may not: %s", d.Why)
	}
}

func TestWantsName(t *testing.T) {
	self := parse(t, allowAll, "action = \"open\"\nservice = \"x\"\nuser = \"@self\"\nverdict = \"allow\"")
	for _, c := range []struct {
		name string
		r    *Rules
		want bool
	}{{"nil", nil, false}, {"no @self", parse(t, allowAll), false}, {"@self", self, true}} {
		if got := c.r.WantsName(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestWords(t *testing.T) {
	for a := Open; a <= last; a++ {
		if got, ok := ParseAction(a.String()); got != a || !ok {
			t.Errorf("%d is %q, and that is %d", a, a, got)
		}
	}
	for _, word := range []string{"", "none", "Open", "open "} {
		if a, ok := ParseAction(word); ok || a != 0 {
			t.Errorf("%q is action %d", word, a)
		}
	}
	for v, want := range map[Verdict]string{Deny: "deny", Allow: "allow", Polkit: "polkit", 3: "deny", -1: "deny"} {
		if v.String() != want {
			t.Errorf("verdict %d is %s", v, v)
		}
	}
	if (Decision{}).Verdict != Deny {
		t.Error("the zero decision is not a no")
	}
}

// callers, objects and rules of a small world, in which most rules match
// something.
func anyCaller() *rapid.Generator[Caller] {
	return rapid.Custom(func(t *rapid.T) Caller {
		uid := rapid.SampledFrom([]uint32{1000, 1001}).Draw(t, "uid")
		return Caller{UID: uid, Groups: rapid.SliceOf(rapid.SampledFrom([]uint32{27, 100})).Draw(t, "groups"),
			Unit: rapid.SampledFrom([]string{"a.service", "b.service"}).Draw(t, "unit"), Name: fmt.Sprintf("u%d", uid)}
	})
}

func anyObject() *rapid.Generator[Object] {
	return rapid.Custom(func(t *rapid.T) Object {
		uid := rapid.SampledFrom([]uint32{0, 1000, 1001}).Draw(t, "user")
		return Object{Exists: rapid.Bool().Draw(t, "exists"), OwnerUID: rapid.SampledFrom([]uint32{0, 1000}).Draw(t, "owner"),
			Service: rapid.SampledFrom([]string{"aa", "ab", "b"}).Draw(t, "service"), User: fmt.Sprintf("u%d", uid), UserKnown: true, UserUID: uid}
	})
}

func anyRules() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("action = %q\nservice = %q\nuser = %q\ncaller = %q\nverdict = %q",
			rapid.SampledFrom([]string{"open", "see", "answer", "manage", "run", "converse"}).Draw(t, "action"),
			rapid.SampledFrom([]string{"a*", "ab", "?a", "b*"}).Draw(t, "service"),
			rapid.SampledFrom([]string{"*", "@self", "u1000", "u?"}).Draw(t, "user"),
			rapid.SampledFrom([]string{"uid:1000", "uid:1001", "group:27", "unit:a.service", "unit:*.service"}).Draw(t, "caller"),
			rapid.SampledFrom([]string{"allow", "deny", "polkit"}).Draw(t, "verdict"))
	}), 1, 8)
}

func TestNotToKnowIsNeverBetterForTheCaller(t *testing.T) {
	rank := map[Verdict]int{Deny: 0, Polkit: 1, Allow: 2}
	rapid.Check(t, func(rt *rapid.T) {
		r := parse(t, anyRules().Draw(rt, "rules")...)
		c, o := anyCaller().Draw(rt, "caller"), anyObject().Draw(rt, "object")
		a := Action(rapid.IntRange(int(Open), int(last)).Draw(rt, "action"))
		full := r.Decide(c, a, o)
		if rapid.Bool().Draw(rt, "without the unit") {
			c.Unit = ""
		}
		if rapid.Bool().Draw(rt, "without the name and the user's uid") {
			c.Name, o.UserKnown, o.UserUID = "", false, 0
		}
		less := r.Decide(c, a, o)
		if rank[less.Verdict] > rank[full.Verdict] {
			rt.Errorf("%s (%s) with less is better than %s (%s)", less.Verdict, less.Why, full.Verdict, full.Why)
		}
		for _, action := range less.Polkit {
			if full.Verdict == Polkit && !slices.Contains(full.Polkit, action) {
				rt.Errorf("polkit may grant %s only to those of whom less is known", action)
			}
		}
	})
}

func TestNothingTellsWhatDoesNotExistFromWhatNoRuleIsAbout(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := anyCaller().Draw(rt, "caller")
		a := rapid.SampledFrom([]Action{See, Answer, Manage}).Draw(rt, "action")
		o := anyObject().Draw(rt, "object")
		o.Exists = false
		got := parse(t, anyRules().Draw(rt, "rules")...).Decide(c, a, o)
		other := (*Rules)(nil).Decide(c, a, Object{Exists: true, OwnerUID: 7, Service: "s", User: "u"})
		if !reflect.DeepEqual(got, other) {
			rt.Errorf("%+v is not %+v", got, other)
		}
	})
}

func TestDecideAllocatesNothing(t *testing.T) {
	r := parse(t, "action = \"open\"\nservice = \"a*b?\"\nverdict = \"allow\"", denyAll)
	fewest := math.Inf(1)
	for range 10 { // other goroutines' count too: those of the test's own tools
		fewest = min(fewest, testing.AllocsPerRun(100, func() { r.Decide(anna, Open, toAnna); r.Decide(bert, Answer, annas) }))
	}
	if fewest != 0 {
		t.Errorf("%v allocations", fewest)
	}
}

// BenchmarkDecide is a decision that no rule of many makes.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 16, 256, maxRules} {
		b.Run(fmt.Sprint(n, " rules"), func(b *testing.B) {
			list := make([]string, n)
			for i := range list {
				list[i] = fmt.Sprintf("action = [\"open\", \"answer\"]\nservice = \"s%d-*\"\nuser = \"?*\"\ncaller = [\"uid:%d\", \"group:1000\"]\nverdict = \"polkit\"", i, 2000+i)
			}
			r := parse(b, list...)
			for b.Loop() {
				r.Decide(anna, Answer, roots)
			}
		})
	}
}
