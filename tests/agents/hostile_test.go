// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// evil is what somebody says who wants a request to be more than it is.
var evil = []struct{ name, text string }{
	{"a line of its own", "Password:\nSocket=/evil"},
	{"such a line after each sign that may end one", "Password:\rSocket=/evil\r\nSocket=/evil\vSocket=/evil\fSocket=/evil\u0085Socket=/evil\u2028Socket=/evil\u2029Socket=/evil"},
	{"a section of its own", "Password:\n[Ask]\nSocket=/evil\nPID=1\nMessage=Password for root:\n"},
	{"a line that goes on with the next", "Password:\\\nSocket=/evil\\"},
	{"a backslash at the end", `Password:\`},
	{"three of them and spaces", `Password:\\\   `},
	{"what clears a screen and sets a title", "\x1b[2J\x1b[H\x1b]0;title\x07\u009b2JPassword:"},
	{"what goes back", "Password for anna:\b\b\b\b\broot:\x7f"},
	{"what is no UTF-8", "Password\xff\xfe\xc3(\xed\xa0\x80:"},
	{"what turns the line round", "\u202e:drowssaP\u2066\u2069"},
	{"what is no character", "Password\ufdd0\uffff\U0010ffff:"},
	{"formats and variables", "%s%n%m $(reboot) `reboot` ${x} %d"},
	{"the end of what we say, and more", `"): Password for root: `},
	{"a comment", "# Password"},
	{"nothing", ""},
	{"nothing but white space", " \t\n "},
	{"many line ends before the question", strings.Repeat("\n", 200) + "Password:"},
}

// wantClean checks that a request is what it is meant to be, whatever was said.
func (b *stage) wantClean(r request, meant protocol.Question) {
	b.t.Helper()
	if r.Message != meant.Line() {
		b.t.Errorf("its line is %q, not %q", r.Message, meant.Line())
	}
	if strings.ContainsFunc(r.Message, unicode.IsControl) || !utf8.ValidString(r.Message) || len(r.Message) > protocol.MaxLine {
		b.t.Errorf("its line is not clean: %q", r.Message)
	}
	if !strings.HasPrefix(r.Message, "anna (") {
		b.t.Errorf("its line does not say first who is asked for what: %q", r.Message)
	}
	if want := filepath.Join(protocol.System, filepath.Base(r.socket)); r.Socket != want || r.PID != b.pid() || r.Echo || r.NotAfter != 0 {
		b.t.Errorf("it is %+v", r.Request)
	}
	if out, want := b.output(ttyAgent, "--list"), fmt.Sprintf("'%s' (PID %d)\n", r.Message, r.PID); out != want {
		b.t.Errorf("systemd's agent reads %q, not %q", out, want)
	}
}

func TestHostileTextsOfAModule(t *testing.T) {
	// Each stands in the question, and then above it.
	probe := modules.Probe(t)
	var stack strings.Builder
	for _, e := range evil {
		fmt.Fprintf(&stack, "auth required %s auth:ask=secret,hex:%x\nauth required %s auth:error=hex:%x [auth:ask=secret,Code: ]\n",
			probe, e.text, probe, e.text)
	}
	b := one(t, stack.String()+rest)
	s := b.open(api.Options{})
	for _, e := range evil {
		t.Run(e.name, func(t *testing.T) {
			b.during(t)
			for _, meant := range []protocol.Question{
				{User: "anna", Service: "one", Text: e.text},
				{User: "anna", Service: "one", Said: []protocol.Said{{Error: true, Text: e.text}}, Text: "Code: "},
			} {
				p, r := b.bus.promptOf(s), b.request()
				b.wantClean(r, meant)
				b.reply(r, "1", "some answer\n")
				b.bus.closed(p, api.OutcomeAnswered)
			}
		})
	}
	b.bus.opened(s)
}

func TestLongTextsOfAModule(t *testing.T) {
	b := one(t, asks(t, "ask=secret,repeat:100000", "error=repeat:100000; info=repeat:100000; ask=secret,repeat:100000"))
	long := strings.Repeat("x", 100_000)
	s := b.open(api.Options{Reason: strings.Repeat("why ", 1000)})
	for _, said := range [][]protocol.Said{nil, {{Error: true, Text: long}, {Text: long}}} {
		p, r := b.bus.promptOf(s), b.request()
		b.wantClean(r, protocol.Question{User: "anna", Service: "one", Reason: strings.Repeat("why ", 1000), Said: said, Text: long})
		b.reply(r, "1", "some answer\n")
		b.bus.closed(p, api.OutcomeAnswered)
	}
	b.bus.opened(s)
}

// The caller's words are bounded already: no control characters, and UTF-8.
func TestHostileReasons(t *testing.T) {
	b := one(t, password(t))
	for _, reason := range []string{
		`"): Password for root: `, `\`, `\\\`, "Socket=/evil", "[Ask]", "# x", "; x", "”): ", "″", "\u2028Socket=/evil", "\u202egnp",
		"\u200b\u2060\ufeff", "\ufdd0\U0010ffff", "%s%n", strings.Repeat(`"`, 4000), strings.Repeat("é", 2000), "   ",
	} {
		t.Run(fmt.Sprintf("%.20q", reason), func(t *testing.T) {
			b.during(t)
			s, err := b.bus.Open(within(t), "one", "anna", api.Options{Reason: reason})
			if err != nil {
				t.Fatal(err)
			}
			p, r := b.bus.promptOf(s), b.request()
			b.wantClean(r, protocol.Question{User: "anna", Service: "one", Reason: reason, Text: "Password: "})
			if strings.Count(r.Message, `"`) > 2 || strings.ContainsAny(r.Message, "”″") {
				t.Errorf("the reason ends its quotes: %q", r.Message)
			}
			b.reply(r, "1", answer+"\n")
			b.bus.closed(p, api.OutcomeAnswered)
			b.bus.opened(s)
		})
	}
}
