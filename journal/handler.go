// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// prefix keeps our fields apart from everybody else's, and from those that mean
// something to the journal.
const prefix = "PAMPROMPT_"

// maxField is the longest name of a field that journald takes.
const maxField = 64

// handler is a slog.Handler. It does not change.
type handler struct {
	program string
	queue   *queue
	text    slog.Handler // says what is enabled, and takes what the journal does not
	send    func(entry []byte) error
	line    func(slog.Handler) slog.Handler // puts the groups and attributes of With... on the handler of MESSAGE
	group   string                          // the names of the groups, each with a _ behind it
	fields  map[string]string               // of WithAttrs
}

// newHandler is a handler that hands entries to send, and what that refuses to text,
// in the queue both.
func newHandler(program string, q *queue, text slog.Handler, send func([]byte) error) *handler {
	return &handler{program: program, queue: q, text: text, send: send, line: func(h slog.Handler) slog.Handler { return h }}
}

// Enabled is a method of slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.text.Enabled(ctx, level)
}

// Handle is a method of slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	fields := maps.Clone(h.fields)
	if fields == nil {
		fields = make(map[string]string)
	}
	fields["SYSLOG_IDENTIFIER"] = h.program
	r.Attrs(func(a slog.Attr) bool { add(fields, h.group, a); return true })
	entry, text := encode(h.message(ctx, r), priority(r.Level), fields), settled(r)
	h.queue.put(len(entry), func() {
		if h.send(entry) != nil {
			_ = h.text.Handle(ctx, text)
		}
	})
	return nil
}

// settled is a record that does not change any more, whatever its values lead to.
func settled(r slog.Record) slog.Record {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool { out.AddAttrs(settledAttr(a)); return true })
	return out
}

func settledAttr(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindAny:
		a.Value = slog.StringValue(a.Value.String())
	case slog.KindGroup:
		inner := a.Value.Group()
		out := make([]slog.Attr, len(inner))
		for i := range inner {
			out[i] = settledAttr(inner[i])
		}
		a.Value = slog.GroupValue(out...)
	}
	return a
}

// message is one line: the text as it is, and the attributes behind it.
func (h *handler) message(ctx context.Context, r slog.Record) string {
	var attributes bytes.Buffer
	handler := slog.NewTextHandler(&attributes, &slog.HandlerOptions{Level: r.Level, ReplaceAttr: withoutHead})
	if h.line(handler).Handle(ctx, r) != nil || attributes.Len() <= 1 {
		return r.Message
	}
	return r.Message + " " + strings.TrimSuffix(attributes.String(), "\n")
}

// withoutHead leaves out what a journal's entry has elsewhere.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.MessageKey || a.Key == slog.TimeKey) {
		return slog.Attr{}
	}
	return a
}

// WithAttrs is a method of slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *h
	more.fields = maps.Clone(h.fields)
	if more.fields == nil {
		more.fields = make(map[string]string)
	}
	for _, a := range attrs {
		add(more.fields, h.group, a)
	}
	more.text = h.text.WithAttrs(attrs)
	more.line = func(line slog.Handler) slog.Handler { return h.line(line).WithAttrs(attrs) }
	return &more
}

// WithGroup is a method of slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	more := *h
	more.group += name + "_"
	more.text = h.text.WithGroup(name)
	more.line = func(line slog.Handler) slog.Handler { return h.line(line).WithGroup(name) }
	return &more
}

// add makes fields of an attribute.
func add(fields map[string]string, group string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if a.Key != "" {
			fields[field(group+a.Key)] = value.String()
		}
		return
	}
	if a.Key != "" {
		group += a.Key + "_"
	}
	for _, inner := range value.Group() {
		add(fields, group, inner)
	}
}

// field is a name that journald takes: capitals, digits and underscores.
func field(key string) string {
	name := prefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	return name[:min(len(name), maxField)]
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level > slog.LevelInfo:
		return journal.PriNotice
	case level == slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
