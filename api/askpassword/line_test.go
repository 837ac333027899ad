// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api/worker"
)

func ExampleQuestion_Line() {
	fmt.Println(Question{
		User: "anna", Service: "systemd-user", Reason: "nightly backup",
		Said: []Said{{Error: true, Text: "Authentication failure"}}, Text: "Password: ",
	}.Line())
	// Output: anna (systemd-user, "nightly backup"): Authentication failure. Password:
}

func ExampleNotice() {
	fmt.Println(Notice("anna", "systemd-user", "Touch your token"))
	// Output: anna (systemd-user): Touch your token
}

func ExampleRequest_Format() {
	fmt.Print(string(Request{Message: "anna (login): Password:", Icon: "dialog-password", Socket: "/run/s", PID: 7}.Format()))
	// Output:
	// [Ask]
	// PID=7
	// Socket=/run/s
	// AcceptCached=0
	// Echo=0
	// NotAfter=0
	// Silent=0
	// Icon=dialog-password
	// Message=anna (login): Password:
}

func TestLine(t *testing.T) {
	long := strings.Repeat("long ", 100)
	for _, c := range []struct {
		name string
		q    Question
		want string
	}{
		{"only a question", Question{User: "anna", Service: "login", Text: "Password: "}, "anna (login): Password:"},
		{"nothing to ask", Question{User: "anna", Service: "login"}, "anna (login):"},
		{"nothing at all", Question{}, "():"},
		{"a text of a module", Question{User: "anna", Service: "login", Said: []Said{{Text: "Hello."}}, Text: "Code:"}, "anna (login): Hello. Code:"},
		{"several, in their order", Question{User: "a", Service: "b", Said: []Said{{Text: "One"}, {true, "Two:"}, {Text: " \n"}, {Text: "Three"}}, Text: "?"}, "a (b): One. Two. Three. ?"},
		{"a reason that would end its quotation", Question{User: "anna", Service: "login", Reason: `x"): Password for root: `, Text: "Password:"}, `anna (login, "x'): Password for root:"): Password:`},
		{"one with other quotation marks", Question{User: "anna", Service: "login", Reason: "x”) «y» ″z″", Text: "Password:"}, `anna (login, "x') 'y' 'z'"): Password:`},
		{"a reason with an apostrophe", Question{User: "anna", Service: "login", Reason: "anna’s 'home'", Text: "?"}, `anna (login, "anna’s 'home'"): ?`},
		{"a reason of spaces", Question{User: "anna", Service: "login", Reason: " \u00a0\n", Text: "?"}, "anna (login): ?"},
		{"two lines", Question{User: "anna", Service: "login", Text: "One\r\n\n  Two\t\x00Three"}, "anna (login): One Two Three"},
		{"an escape sequence", Question{User: "anna", Service: "login", Text: "\x1b[2JPassword:"}, "anna (login): \ufffd[2JPassword:"},
		{"a change of direction", Question{User: "anna\u202e", Service: "login", Text: "?"}, "anna\ufffd (login): ?"},
		{"what cannot be seen", Question{User: "anna\u3164", Service: "login\u200b", Text: "\u2800?"}, "anna\ufffd (login\ufffd): \ufffd?"},
		{"no UTF-8", Question{User: "anna\xff", Service: "login", Text: "\xed\xa0\x80"}, "anna\ufffd (login): \ufffd\ufffd\ufffd"},
		{"words and emoji", Question{User: "jürgen", Service: "login", Text: "نامه\u200cای ❤\ufe0f 👩\u200d💻 密码："}, "jürgen (login): نامه\u200cای ❤\ufe0f 👩\u200d💻 密码："},
		{"a question that is very far down", Question{User: "anna", Service: "login", Text: strings.Repeat("\n", 100_000) + "Password:"}, "anna (login): Password:"},
		{"a long reason", Question{User: "anna", Service: "login", Reason: long, Text: "Password:"}, `anna (login, "` + strings.Repeat("long ", 44) + `long…"): Password:`},
		{"a long user", Question{User: strings.Repeat("u", 49), Service: "login", Text: "?"}, strings.Repeat("u", 45) + "… (login): ?"},
		{"a long service", Question{User: "anna", Service: strings.Repeat("s", 41), Text: "?"}, "anna (" + strings.Repeat("s", 37) + "…): ?"},
		{"a user of the most bytes", Question{User: strings.Repeat("u", 48), Service: strings.Repeat("s", 40), Text: "?"}, strings.Repeat("u", 48) + " (" + strings.Repeat("s", 40) + "): ?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.q.Line(); got != c.want {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

func TestTheLastErrorComesBeforeAllElse(t *testing.T) {
	long := strings.Repeat("information ", 50)
	q := Question{
		User: strings.Repeat("u", 100), Service: strings.Repeat("s", 100), Reason: long, Text: strings.Repeat("q", 500),
		Said: []Said{{Text: long}, {true, "an earlier error"}, {true, "Authentication failure"}, {Text: long}, {Text: long}},
	}
	line := q.Line()
	if !strings.Contains(line, "Authentication failure. ") || len(line) > MaxLine || !strings.HasSuffix(line, strings.Repeat("q", 90)+"…") {
		t.Errorf("%d bytes: %q", len(line), line)
	}
	q.Said = []Said{{true, long + "error"}, {Text: "later information"}}
	if line := q.Line(); !strings.Contains(line, "information information info") || strings.Contains(line, "later") {
		t.Errorf("a long error was pushed out: %q", line)
	}
}

func TestNothingVanishesWithoutATrace(t *testing.T) {
	for _, gap := range []string{".", `"`, "“", "\x01", "x", "é"} {
		text := "x" + strings.Repeat(gap, 100_000) + "y"
		for name, q := range map[string]Question{
			"question": {User: "a", Service: "b", Text: text},
			"reason":   {User: "a", Service: "b", Reason: text},
			"said":     {User: "a", Service: "b", Said: []Said{{Text: text}}},
			"user":     {User: text},
			"service":  {Service: text},
		} {
			if line := q.Line(); !strings.Contains(line, ellipsis) {
				t.Errorf("a %s with many %q became %q", name, gap, line)
			}
		}
		if line := Notice("a", "b", text); !strings.HasSuffix(line, ellipsis) {
			t.Errorf("a notice with many %q became %q", gap, line)
		}
	}
}

// sound checks what every agent relies on.
func sound(t testing.TB, line string) {
	t.Helper()
	if len(line) > MaxLine || !utf8.ValidString(line) || strings.TrimSpace(line) != line {
		t.Errorf("%d bytes are no line: %q", len(line), line)
	}
	for _, r := range line {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp, unicode.Co, unicode.Other_Default_Ignorable_Code_Point) || unicode.IsSpace(r) && r != ' ' {
			t.Errorf("%U is in the line %q", r, line)
		}
	}
	if clean(line) != line {
		t.Errorf("%q is not clean", line)
	}
}

// asked checks that a line says what it must, whatever the parts are.
func asked(t testing.TB, q Question) {
	t.Helper()
	line := q.Line()
	sound(t, line)
	user, service := cut(clean(q.User), maxUser), cut(clean(q.Service), maxService)
	head := strings.TrimLeft(user+" ("+service, " ")
	rest, ok := strings.CutPrefix(line, head)
	if !ok {
		t.Fatalf("%q does not begin with %q", line, head)
	}
	question := clean(q.Text)
	start := question
	if len(start) > maxQuestion {
		start = strings.TrimRight(start[:maxQuestion-2*utf8.UTFMax], " \ufffd")
		for !utf8.ValidString(start) {
			start = start[:len(start)-1]
		}
		if !strings.HasSuffix(line, ellipsis) && !strings.HasSuffix(line, question) {
			t.Errorf("%q was cut and does not show it", line)
		}
	} else if !strings.HasSuffix(rest, strings.TrimSpace("): "+question)) && !strings.HasSuffix(rest, strings.TrimSpace(". "+question)) {
		t.Errorf("%q does not end in %q", line, question)
	}
	if !strings.Contains(rest, strings.TrimSpace(start)) {
		t.Errorf("%q has no %q", line, start)
	}
	// A reason's own quotation marks would end the quotation.
	if q.Reason != "" && !strings.ContainsAny(q.User+q.Service+q.Text, `"`) && len(q.Said) == 0 && strings.Count(line, `"`) > 2 {
		t.Errorf("there are more quotation marks than two in %q", line)
	}
}

func TestALineIsALineWhateverItsPartsAre(t *testing.T) {
	for _, text := range hostile {
		for _, other := range []string{"x", text, strings.Repeat("w", 1000)} {
			asked(t, Question{User: text, Service: other, Reason: other, Text: other})
			asked(t, Question{User: other, Service: text, Reason: other, Text: other})
			asked(t, Question{User: other, Service: other, Reason: text, Text: other})
			asked(t, Question{User: other, Service: other, Reason: other, Text: text})
			asked(t, Question{User: other, Service: other, Reason: other, Text: other, Said: []Said{{Text: text}, {true, text}, {Text: other}}})
			sound(t, Notice(text, other, other))
			sound(t, Notice(other, text, text))
		}
	}
}

func questions() *rapid.Generator[Question] {
	return rapid.Custom(func(t *rapid.T) Question {
		q := Question{User: texts().Draw(t, "user"), Service: texts().Draw(t, "service"), Reason: texts().Draw(t, "reason"), Text: texts().Draw(t, "text")}
		for range rapid.IntRange(0, 4).Draw(t, "said") {
			q.Said = append(q.Said, Said{rapid.Bool().Draw(t, "error"), texts().Draw(t, "text of a module")})
		}
		return q
	})
}

func TestLinesOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		q := questions().Draw(rt, "question")
		asked(t, q)
		sound(t, Notice(q.User, q.Service, q.Text))
	})
}

func TestNothingIsLostWhenItFits(t *testing.T) {
	word := rapid.StringMatching(`[a-zäß']{1,12}( [a-zäß']{1,9})?`)
	rapid.Check(t, func(t *rapid.T) {
		q := Question{User: word.Draw(t, "user"), Service: word.Draw(t, "service"), Reason: word.Draw(t, "reason"), Text: word.Draw(t, "text")}
		want := q.User + " (" + q.Service + `, "` + q.Reason + `"): `
		for range rapid.IntRange(0, 2).Draw(t, "said") {
			said := Said{rapid.Bool().Draw(t, "error"), word.Draw(t, "text of a module")}
			q.Said = append(q.Said, said)
			want += said.Text + ". "
		}
		want += q.Text
		if got := q.Line(); len(want) <= MaxLine && got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		if got, want := Notice(q.User, q.Service, q.Text), q.User+" ("+q.Service+"): "+q.Text; got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, most := clean(texts().Draw(t, "text")), rapid.IntRange(len(ellipsis), 300).Draw(t, "most")
		got := cut(s, most)
		switch start, was := strings.CutSuffix(got, ellipsis); {
		case len(got) > most || !utf8.ValidString(got):
			t.Fatalf("%q is no text of %d bytes", got, most)
		case len(s) <= most && got != s:
			t.Fatalf("%q was cut to %q, though it fits", s, got)
		case len(s) > most && (!was || !strings.HasPrefix(s, start)):
			t.Fatalf("%q was cut to %q", s, got)
		case len(s) > most && len(got) < most-2*utf8.UTFMax:
			t.Fatalf("only %d of %d bytes were used", len(got), most)
		}
	})
}

func TestClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := clean(texts().Draw(t, "text"))
		if strings.TrimSpace(s) != s || strings.Contains(s, "  ") || clean(s) != s && len(s) < 4*MaxLine || len(s) > 5*MaxLine {
			t.Fatalf("%q is not clean", s)
		}
	})
}

// FuzzLine: a line is one whatever modules, callers and users say.
func FuzzLine(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, user, service, reason, text, info, failure string) {
		asked(t, Question{User: user, Service: service, Reason: reason, Text: text})
		asked(t, Question{User: user, Service: service, Reason: reason, Text: text, Said: []Said{{Text: info}, {true, failure}, {Text: info}}})
		sound(t, Notice(user, service, text))
	})
}

func TestTheRequestForAQuestion(t *testing.T) {
	start := &worker.Start{User: "anna", Service: "login", Options: &worker.Options{Reason: "backup"}}
	p := &worker.Prompt{
		Style: worker.Style_STYLE_SECRET, Text: []byte("Password: "), ExpiresUsec: 5,
		Messages: []*worker.Message{{Style: worker.Style_STYLE_INFO, Text: []byte("Hello")}, {Style: worker.Style_STYLE_ERROR, Text: []byte("No\nSocket=/evil")}},
	}
	r := Ask(start, p)
	if r.Message != `anna (login, "backup"): Hello. No Socket=/evil. Password:` || r.ID != "pamprompt:login:anna" || r.PID == 0 || r.NotAfter != 5 || r.Echo || r.Silent || r.AcceptCached {
		t.Errorf("%+v", r)
	}
	p.Style = worker.Style_STYLE_VISIBLE
	if !Ask(start, p).Echo {
		t.Error("what may be seen is hidden")
	}
}
