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
	text    slog.Handler // says what is enabled, and takes what the journal does not
	send    func(message string, p journal.Priority, fields map[string]string) error
	line    func(slog.Handler) slog.Handler // puts the groups and attributes of With... on the handler of MESSAGE
	group   string                          // the names of the groups, each with a _ behind it
	fields  map[string]string               // of WithAttrs
}

func newHandler(program string, text slog.Handler, send func(string, journal.Priority, map[string]string) error) *handler {
	return &handler{program: program, text: text, send: send, line: func(h slog.Handler) slog.Handler { return h }}
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
	if h.send(h.message(ctx, r), priority(r.Level), fields) != nil {
		return h.text.Handle(ctx, r)
	}
	return nil
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
