// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/pamprompt/pamprompt/api/secret"
)

// entry is what was sent to the journal.
type entry struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

// record returns a log whose entries are kept.
func record(level slog.Level, entries *[]entry) *slog.Logger {
	return slog.New(newHandler("test", new(queue), slog.NewTextHandler(new(bytes.Buffer), &slog.HandlerOptions{Level: level}),
		func(raw []byte) error {
			*entries = append(*entries, decode(raw))
			return nil
		}))
}

// decode is encode's counterpart.
func decode(raw []byte) entry {
	e := entry{fields: make(map[string]string)}
	for len(raw) > 0 {
		head, rest, _ := bytes.Cut(raw, []byte{'\n'})
		name, value, one := strings.Cut(string(head), "=")
		if !one {
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		raw = rest
		switch name {
		case "MESSAGE":
			e.message = value
		case "PRIORITY":
			_, _ = fmt.Sscan(value, &e.priority)
		default:
			e.fields[name] = value
		}
	}
	return e
}

// caller is a slog.LogValuer.
type caller struct {
	uid     uint32
	channel string
}

func (c caller) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("uid", c.uid), slog.String("channel", c.channel))
}

func TestEntries(t *testing.T) {
	for _, c := range []struct {
		name    string
		log     func(*slog.Logger)
		message string
		p       journal.Priority
		fields  map[string]string
	}{
		{"a text alone", func(l *slog.Logger) { l.Info("opened") }, "opened", journal.PriInfo, nil},
		{"attributes", func(l *slog.Logger) {
			l.Warn("refused", "event", "refusal", "caller-uid", uint32(1000), "why", "no rule")
		},
			`refused event=refusal caller-uid=1000 why="no rule"`, journal.PriWarning,
			map[string]string{"PAMPROMPT_EVENT": "refusal", "PAMPROMPT_CALLER_UID": "1000", "PAMPROMPT_WHY": "no rule"}},
		{"attributes of before", func(l *slog.Logger) { l.With("session", uint64(7)).Error("failed", "error", errors.New("x")) },
			"failed session=7 error=x", journal.PriErr, map[string]string{"PAMPROMPT_SESSION": "7", "PAMPROMPT_ERROR": "x"}},
		{"groups", func(l *slog.Logger) {
			l.WithGroup("a").With("b", 1).WithGroup("c").Debug("x", "d", 2, slog.Group("e", "f", 3), slog.Group("", "g", 4))
		}, "x a.b=1 a.c.d=2 a.c.e.f=3 a.c.g=4", journal.PriDebug,
			map[string]string{"PAMPROMPT_A_B": "1", "PAMPROMPT_A_C_D": "2", "PAMPROMPT_A_C_E_F": "3", "PAMPROMPT_A_C_G": "4"}},
		{"a value that says of itself what it is", func(l *slog.Logger) { l.Info("x", "by", caller{1000, "dbus"}) }, "x by.uid=1000 by.channel=dbus", journal.PriInfo,
			map[string]string{"PAMPROMPT_BY_UID": "1000", "PAMPROMPT_BY_CHANNEL": "dbus"}},
		{"a value of several lines", func(l *slog.Logger) { l.Info("x", "user", "anna\nPRIORITY=0") }, `x user="anna\nPRIORITY=0"`, journal.PriInfo,
			map[string]string{"PAMPROMPT_USER": "anna\nPRIORITY=0"}},
		{"keys that the journal has none of", func(l *slog.Logger) { l.Info("x", "_uid=0\nä", "v") }, `x "_uid=0\nä"=v`, journal.PriInfo,
			map[string]string{"PAMPROMPT__UID_0__": "v"}},
		{"a key that is too long", func(l *slog.Logger) { l.Info("x", strings.Repeat("k", 80), "v") }, "x " + strings.Repeat("k", 80) + "=v", journal.PriInfo,
			map[string]string{"PAMPROMPT_" + strings.Repeat("K", 54): "v"}},
		{"keys that slog has itself", func(l *slog.Logger) { l.WithGroup("g").Info("x", "msg", "m", "level", "l") }, "x g.msg=m g.level=l", journal.PriInfo,
			map[string]string{"PAMPROMPT_G_MSG": "m", "PAMPROMPT_G_LEVEL": "l"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var entries []entry
			c.log(record(slog.LevelDebug, &entries))
			if len(entries) != 1 {
				t.Fatalf("there are %d entries", len(entries))
			}
			want := map[string]string{"SYSLOG_IDENTIFIER": "test"}
			maps.Copy(want, c.fields)
			if e := entries[0]; e.message != c.message || e.priority != c.p || !maps.Equal(e.fields, want) {
				t.Errorf("the entry is %d %q %q\nwant         %d %q %q", e.priority, e.message, e.fields, c.p, c.message, want)
			}
		})
	}
}

func TestAHandlerIsNotChangedByThoseMadeOfIt(t *testing.T) {
	var entries []entry
	log := record(slog.LevelInfo, &entries)
	one := log.With("session", 1)
	two := one.With("session", 2, "prompt", 3)
	log.Info("x")
	one.Info("x")
	two.Info("x")
	one.Info("x", "answer", 4)
	one.Info("x")
	for i, want := range []string{"x", "x session=1", "x session=1 session=2 prompt=3", "x session=1 answer=4", "x session=1"} {
		if entries[i].message != want {
			t.Errorf("entry %d is %q, want %q", i, entries[i].message, want)
		}
	}
	for i, n := range []int{1, 2, 3, 3, 2} { // SYSLOG_IDENTIFIER is one of them
		if len(entries[i].fields) != n {
			t.Errorf("entry %d has the fields %q", i, entries[i].fields)
		}
	}
}

func TestLevels(t *testing.T) {
	var entries []entry
	log := record(slog.LevelWarn, &entries)
	log.Debug("x")
	log.Info("x")
	log.Warn("x")
	if len(entries) != 1 {
		t.Errorf("from warnings on there are %d entries", len(entries))
	}
	for level, want := range map[slog.Level]journal.Priority{
		slog.LevelDebug: journal.PriDebug, slog.LevelDebug - 4: journal.PriDebug, slog.LevelInfo: journal.PriInfo,
		slog.LevelInfo + 1: journal.PriNotice, slog.LevelWarn: journal.PriWarning, slog.LevelError + 4: journal.PriErr,
	} {
		if got := priority(level); got != want {
			t.Errorf("the priority of %v is %d, want %d", level, got, want)
		}
	}
}

func TestWhatTheJournalDoesNotTakeIsWrittenAsText(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(newHandler("test", new(queue), slog.NewTextHandler(&text, nil),
		func([]byte) error { return errors.New("there is no journal") }))
	log.With("session", 7).WithGroup("g").Info("opened", "a", "b")
	if got := text.String(); !strings.HasSuffix(got, " level=INFO msg=opened session=7 g.a=b\n") {
		t.Errorf("the text is %q", got)
	}
}

// holder is how a secret comes into a log by accident.
type holder struct {
	Name   string
	Answer *secret.Secret
}

func TestNoSecretComesIntoAnEntry(t *testing.T) {
	const words = "correct horse battery staple"
	s, err := secret.Read(strings.NewReader(words))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	var entries []entry
	record(slog.LevelDebug, &entries).With("kept", s).Info("answered", "answer", s, slog.Group("g", "answer", s),
		"holder", holder{"anna", s}, "list", []*secret.Secret{s}, "error", fmt.Errorf("not %v", s))
	all := fmt.Sprint(entries)
	for word := range strings.FieldsSeq(words) {
		if strings.Contains(all, word) {
			t.Errorf("%q is in %s", word, all)
		}
	}
	if strings.Count(entries[0].message, "[secret]") != 6 {
		t.Errorf("the message is %s", entries[0].message)
	}
}

// TestSlog is what slog wants of every handler. The fields of the journal
// have no groups, so it looks at the message alone.
func TestSlog(t *testing.T) {
	var last entry
	slogtest.Run(t, func(*testing.T) slog.Handler {
		return newHandler("test", new(queue), slog.NewTextHandler(new(bytes.Buffer), nil), func(raw []byte) error {
			last = decode(raw)
			return nil
		})
	}, func(t *testing.T) map[string]any {
		// The journal has the time itself, of which one test wants that it can be missing.
		result := map[string]any{slog.LevelKey: last.priority, slog.MessageKey: last.message}
		if !strings.HasSuffix(t.Name(), "/zero-time") {
			result[slog.TimeKey] = time.Now()
		}
		text, attributes, _ := strings.Cut(last.message, " ")
		result[slog.MessageKey] = text
		for pair := range strings.FieldsSeq(attributes) {
			key, value, _ := strings.Cut(pair, "=")
			within := result
			groups := strings.Split(key, ".")
			for _, group := range groups[:len(groups)-1] {
				if within[group] == nil {
					within[group] = make(map[string]any)
				}
				within = within[group].(map[string]any)
			}
			within[groups[len(groups)-1]] = value
		}
		return result
	})
}
