// SPDX-License-Identifier: Apache-2.0

// Package journal is where the programs of pamprompt log to: to systemd's
// journal in its native protocol when standard error leads there, so that each
// attribute is a field of its own, else to standard error as text. It knows
// nothing of what is logged, and writes no secret because whoever has one
// cannot print it (api/secret).
//
// An entry has the fields of systemd.journal-fields(7): MESSAGE, the text and
// the attributes behind it as slog.TextHandler writes them, on one line;
// PRIORITY; SYSLOG_IDENTIFIER, the program; and for an attribute "caller-uid"
// PAMPROMPT_CALLER_UID, for one in a group "g" PAMPROMPT_G_CALLER_UID.
//
// journal.go chooses, handler.go is the slog.Handler.
package journal

import (
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
)

// Logger returns the log of a program, whose name every entry in the journal
// has, from a level on. The journal that does not take an entry any more gets
// it as text.
func Logger(program string, level slog.Leveler) *slog.Logger {
	text := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	// systemd.exec(5): JOURNAL_STREAM is inherited by programs whose standard
	// error is another one.
	if stream, err := journal.StderrIsJournalStream(); err != nil || !stream {
		return slog.New(text)
	}
	return slog.New(newHandler(program, text, journal.Send))
}
