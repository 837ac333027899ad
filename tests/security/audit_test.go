// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// field is one attribute of a line of the log, as slog.TextHandler writes it.
var field = regexp.MustCompile(`([a-z-]+)=("(?:[^"\\]|\\.)*"|[^ \n]*)`)

// audited are the entries with an event, in their order, without those of before.
func (b *bench) audited(t testing.TB, from int) []map[string]string {
	t.Helper()
	var entries []map[string]string
	for line := range strings.Lines(b.Log()[from:]) {
		entry := make(map[string]string)
		for _, m := range field.FindAllStringSubmatch(line, -1) {
			value := m[2]
			if text, err := strconv.Unquote(value); err == nil {
				value = text
			}
			entry[m[1]] = value
		}
		if entry["event"] != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// wantAudited checks the entries since a point of the log. What a wanted one does
// not name may be anything, and "" is what must not be there.
func (b *bench) wantAudited(t testing.TB, from int, want ...map[string]string) {
	t.Helper()
	got := b.audited(t, from)
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) {
			t.Fatalf("the entries are\n%v\nnot\n%v", got, want)
		}
		for name, value := range want[i] {
			if got[i][name] != value {
				t.Errorf("entry %d has %s %q, not %q: %v", i, name, got[i][name], value, got[i])
			}
		}
	}
}

func numberOf(path dbus.ObjectPath) string {
	return strings.TrimPrefix(string(path), api.SessionPrefix)
}

// Each open, answer, cancel, refusal and close says who, for whom, by which way.
func TestWhatHappensIsAudited(t *testing.T) {
	dir := t.TempDir()
	b := start(t, system.MachineOptions{
		Options: system.Options{BrokerArgs: []string{"--ask-password", dir}},
		Policy: "[[rule]]\naction = \"open\"\nservice = \"ask\"\ncaller = \"uid:60001\"\nverdict = \"allow\"\n" +
			"[[rule]]\naction = \"agent\"\ncaller = \"uid:60002\"\nverdict = \"deny\"\n",
	})
	opener, other := b.join(t, system.Opener), b.join(t, system.Other)
	from := len(b.Log())
	session := opener.open("ask", "root", nil)
	prompt := b.asked(t, session)
	about := map[string]string{"session": numberOf(session), "service": "ask", "user": "root"}
	by := func(p *person, event, channel string) map[string]string {
		return map[string]string{
			"event": event, "channel": channel, "caller": p.Names()[0],
			"caller-uid": fmt.Sprint(p.UID), "caller-pid": fmt.Sprint(p.PID),
		}
	}
	with := func(m ...map[string]string) map[string]string {
		all := make(map[string]string)
		for _, one := range m {
			maps.Copy(all, one)
		}
		return all
	}
	wantDenied(t, "another user's answer", other.manager("AnswerPrompt", prompt, "guess").Err)
	wantDenied(t, "another user's session", other.manager("OpenSession", "permit", "anna", options{}).Err)
	wantDenied(t, "an answer to nothing", other.manager("AnswerPrompt", uint64(1), "guess").Err)
	wantDenied(t, "another user's agent", other.manager("RegisterAgent", options{}).Err)
	if err := opener.manager("AnswerPrompt", prompt, "right").Err; err != nil {
		t.Fatal(err)
	}
	b.wait(t, session, api.StateOpen)
	if err := opener.call(session, api.SessionInterface+".Close").Err; err != nil {
		t.Fatal(err)
	}
	b.wait(t, session, api.StateClosed)
	b.wantAudited(t, from,
		with(by(opener, "open", "dbus"), about, map[string]string{"prompt": ""}),
		with(by(other, "refusal", "dbus"), map[string]string{
			"action": "answer", "service": "ask", "user": "root",
			"why": "org.pamprompt.answer-any: polkit would ask somebody first, and the caller did not allow that",
		}),
		with(by(other, "refusal", "dbus"), map[string]string{"action": "open", "service": "permit", "user": "anna"}),
		with(by(other, "refusal", "dbus"), map[string]string{"action": "answer", "service": "", "user": ""}),
		with(by(other, "refusal", "dbus"), map[string]string{"action": "agent", "service": "", "user": ""}),
		with(by(opener, "answer", "dbus"), about, map[string]string{"prompt": fmt.Sprint(prompt)}),
		with(about, map[string]string{"event": "close", "state": "closed", "why": "closed by uid 60001"}),
	)
	from = len(b.Log())
	session = opener.open("ask", "root", nil)
	prompt = b.asked(t, session)
	if err := opener.manager("CancelPrompt", prompt).Err; err != nil {
		t.Fatal(err)
	}
	b.wait(t, session, api.StateClosed)
	about["session"] = numberOf(session)
	b.wantAudited(t, from,
		with(by(opener, "open", "dbus"), about),
		with(by(opener, "cancel", "dbus"), about, map[string]string{"prompt": fmt.Sprint(prompt)}),
		with(about, map[string]string{"event": "close", "state": "failed"}),
	)
	from = len(b.Log())
	session = opener.open("ask", "root", nil)
	b.asked(t, session)
	b.replyPassword(t, dir, "+right")
	b.wait(t, session, api.StateOpen)
	about["session"] = numberOf(session)
	b.wantAudited(t, from,
		with(by(opener, "open", "dbus"), about),
		with(about, map[string]string{"event": "answer", "channel": "ask-password", "caller-uid": "0", "caller-pid": fmt.Sprint(os.Getpid()), "caller": ""}),
	)
	from = len(b.Log())
	session = opener.open("ask", "root", nil)
	prompt = b.asked(t, session)
	b.replyPassword(t, dir, "-")
	b.wait(t, session, api.StateOpen)
	about["session"] = numberOf(session)
	b.wantAudited(t, from,
		with(by(opener, "open", "dbus"), about),
		with(about, map[string]string{"event": "cancel", "channel": "ask-password", "caller-uid": "0", "prompt": fmt.Sprint(prompt)}),
		with(about, map[string]string{"event": "close", "state": "failed"}),
	)
	for _, secret := range []string{"guess", "right"} {
		if strings.Contains(b.Log(), secret) {
			t.Errorf("the log holds the answer %q", secret)
		}
	}
}

// replyPassword answers the one question in an ask-password directory, as
// systemd's agents do.
func (b *bench) replyPassword(t testing.TB, dir, text string) {
	t.Helper()
	var files []string
	for range 100000 { // the file is written beside the call that told of the prompt
		if files, _ = filepath.Glob(filepath.Join(dir, "ask.*")); len(files) > 0 {
			break
		}
		if err := call(b.root, api.RootPath, "org.freedesktop.DBus.Peer.Ping").Err; err != nil {
			t.Fatal(err)
		}
	}
	if len(files) != 1 {
		t.Fatalf("there are the questions %v", files)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "Socket=")
	socket, _, _ := strings.Cut(rest, "\n")
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// A journal that one uid fills tells nobody of what the others do.
func TestRefusalsDoNotDrownTheJournal(t *testing.T) {
	b := start(t, system.MachineOptions{})
	other := b.join(t, system.Other)
	from := len(b.Log())
	const many = 400
	for range many {
		wantDenied(t, "an answer", other.manager("AnswerPrompt", uint64(1), "guess").Err)
	}
	told := len(b.audited(t, from))
	if told < 50 || told >= many {
		t.Errorf("%d of %d refusals are in the log", told, many)
	}
}
