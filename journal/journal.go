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
// Nobody waits for whoever takes the log: when standard error is a pipe that nobody
// reads, or the journal hangs, up to a MiB is kept until they go on; more is lost, and
// they are told how much.
//
// journal.go chooses, handler.go is the slog.Handler, send.go speaks to the journal,
// queue.go sees that nobody waits.
package journal

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
)

// Stderr is standard error for what a program says besides its log: in order with
// that, and like that, it holds nobody up.
var Stderr io.Writer = standard

var standard = writer{&queue{lost: func(lines int) {
	fmt.Fprintf(os.Stderr, "level=WARN msg=%q lines=%d\n", tooSlow, lines)
}}, os.Stderr}

// tooSlow is what the log says of itself.
const tooSlow = "the log was not taken, and lines of it are lost"

// Logger returns the log of a program, whose name every entry in the journal
// has, from a level on. The journal that does not take an entry any more gets
// it as text.
func Logger(program string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	// systemd.exec(5): JOURNAL_STREAM is inherited by programs whose standard
	// error is another one.
	if stream, err := journal.StderrIsJournalStream(); err != nil || !stream {
		return slog.New(slog.NewTextHandler(Stderr, options))
	}
	// In the queue already: the text is for standard error itself.
	s := &sender{path: socketPath, fd: -1}
	return slog.New(newHandler(program, standard.queue, slog.NewTextHandler(os.Stderr, options), s.send))
}
