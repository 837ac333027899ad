// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/pamprompt/pamprompt/api"
)

func TestCleanText(t *testing.T) {
	for _, test := range []struct{ name, in, text, line string }{
		{"plain text stays", "Passwort für Jörg: ", "Passwort für Jörg: ", "Passwort für Jörg: "},
		{"lines stay lines", "one\r\ntwo\n", "one\ntwo\n", "one two "},
		{"a tab is a space", "a\tb", "a b", "a b"},
		{"a bare return could hide what stands before it", "root\rnobody", "root?nobody", "root?nobody"},
		{"an escape sequence is shown", "\x1b[2J\x1b]0;x\x07", "?[2J?]0;x?", "?[2J?]0;x?"},
		{"the 8-bit ones too", "\u009b2J\u0085", "?2J?", "?2J?"},
		{"the direction of writing does not change", "\u202eabc\u2066", "?abc?", "?abc?"},
		{"nothing is invisible", "a\u200bb\ufeff\u00ad", "a?b??", "a?b??"},
		{"other line ends are none", "a\u2028b\u2029", "a?b?", "a?b?"},
		{"what is not UTF-8", "a\xffb", "a\ufffdb", "a\ufffdb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := cleanText(test.in); got != test.text {
				t.Errorf("text: got %q, want %q", got, test.text)
			}
			if got := cleanLine(test.in); got != test.line {
				t.Errorf("line: got %q, want %q", got, test.line)
			}
		})
	}
}

func TestJSONLineIsSafeForATerminalAndLosesNothing(t *testing.T) {
	text := "\x1b[2J\u009b\u202e\U000e0001 <&> \u2028 Jörg \n\x7f"
	line, err := jsonLine(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return obeyed(r) || unicode.IsControl(r) }); i >= 0 {
		t.Errorf("%q is not safe at %d", line, i)
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(line), &back); err != nil || back["text"] != text {
		t.Errorf("got %q (%v) from %s", back["text"], err, line)
	}
}

func TestColumnsAreAlignedAsATerminalShowsThem(t *testing.T) {
	got := columns([][]string{{"PROMPT", "USER", "MESSAGE"}, {"1", "jörg", "Passwort: "}, {"4711", "山田", "パスワード"}, {"2", "", ""}})
	want := "PROMPT  USER  MESSAGE\n1       jörg  Passwort:\n4711    山田  パスワード\n2\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := columns(nil); got != "" {
		t.Errorf("nothing is %q", got)
	}
}

func TestJSONFlag(t *testing.T) {
	for _, word := range []string{"short", "pretty", "off"} {
		o := &output{json: word == "off", pretty: word != "pretty"}
		if err := (jsonFlag{o}).Set(word); err != nil || (jsonFlag{o}).String() != word {
			t.Errorf("after %q it is %q, %v", word, jsonFlag{o}, err)
		}
	}
	if err := (jsonFlag{new(output)}).Set("long"); err == nil || !strings.Contains(err.Error(), "short, pretty and off") {
		t.Errorf("of another word it says %v", err)
	}
	text := "a\u202eb \x1b[2J"
	var out strings.Builder
	if err := (&output{w: &out, json: true, pretty: true}).line(map[string]any{"text": text, "n": []int{1}}, ""); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"n\": [\n    1\n  ],\n  \"text\": \"a\\u202eb \\u001b[2J\"\n}\n"; out.String() != want {
		t.Errorf("pretty is\n%s, want\n%s", out.String(), want)
	}
}

func TestEventLines(t *testing.T) {
	for _, test := range []struct {
		event       api.Event
		json, human string
	}{
		{api.Prompt{ID: 7, Session: 5, Path: "/s/5", Style: "secret", Message: "PIN: "},
			`{"event":"prompt","prompt":7,"session":5,"path":"/s/5","style":"secret","message":"PIN: ","index":0}`, "session 5: prompt 7: secret: PIN:"},
		{api.PromptClosed{ID: 7, Outcome: "answered"}, `{"event":"prompt-closed","prompt":7,"outcome":"answered"}`, "prompt 7: answered"},
		{api.Message{Session: 5, Text: api.Text{Style: "info", Text: "hi"}},
			`{"event":"message","session":5,"style":"info","text":"hi"}`, "session 5: info: hi"},
		{api.SessionAdded{ID: 5}, `{"event":"session-added","session":5}`, "session 5: added"},
		{api.SessionRemoved{ID: 5}, `{"event":"session-removed","session":5}`, "session 5: removed"},
		{api.SessionChanged{ID: 5, State: "failed", PAMResult: 7},
			`{"event":"state","session":5,"state":"failed","pam-result":7}`, "session 5: failed"},
		{api.BrokerGone{}, `{"event":"broker-gone"}`, "the broker has left the bus"},
		{api.BrokerBack{}, `{"event":"broker-back"}`, "the broker is on the bus"},
	} {
		name, human := eventText(test.event)
		line, err := jsonLine(event{name, test.event})
		if err != nil || line != test.json {
			t.Errorf("got %s (%v), want %s", line, err, test.json)
		}
		if human != test.human {
			t.Errorf("got %q, want %q", human, test.human)
		}
	}
}

func TestEveryCodeHasAnExitCode(t *testing.T) {
	for _, code := range api.Codes() {
		got := exitCode(fmt.Errorf("wrapped: %w", &api.Error{Code: code}))
		if got == exitOK || got == exitFailure && code != api.LimitExceeded {
			t.Errorf("%s: exit code %d", code, got)
		}
	}
	if got := exitCode(errors.New("anything")); got != exitFailure {
		t.Errorf("any other error: exit code %d", got)
	}
}

func TestACommandIsShownAsOneWouldTypeIt(t *testing.T) {
	p := api.Prompt{User: "anna", Service: "run", Command: []string{"sh", "-c", "echo 'a b'\x1b; exit", "", "-x=1"}}
	if got, want := heading(p), `to run: sh -c 'echo '\''a b'\''?; exit' '' -x=1`; !strings.HasSuffix(got, "\n"+want) {
		t.Errorf("it is %q, not %q", got, want)
	}
}
