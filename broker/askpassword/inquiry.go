// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"math"
	"os"
	"time"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

// Inquiry is a request of somebody else. It does not change: a file that does
// is another inquiry.
type Inquiry struct{ protocol.Found }

// Reason is why somebody does not ask any more.
type Reason int

// The reasons.
const (
	Removed Reason = iota // the file, or its directory, has gone or was replaced
	Expired               // its time was over
	Died                  // the process that asked has ended
)

func (r Reason) String() string {
	switch r {
	case Expired:
		return "expired"
	case Died:
		return "died"
	}
	return "removed"
}

// asked is an inquiry that Events knows of, and what ends it but its file.
type asked struct {
	*Inquiry
	timer   *time.Timer // nil if it has no end
	process *os.File    // nil if it names none
}

// ask tells of a request, and waits for its end.
func (a *Adapter) ask(f protocol.Found, process *os.File) {
	q := &asked{Inquiry: &Inquiry{f}, process: process}
	a.inquiries[f.Name] = q
	a.events.Asked(q.Inquiry)
	if f.NotAfter != 0 {
		q.timer = time.AfterFunc(left(f.NotAfter), func() { a.call(func() { a.finish(q, Expired) }) })
	}
	if process != nil {
		a.wait.Go(func() {
			if awaitEnd(process) {
				a.call(func() { a.finish(q, Died) })
			}
		})
	}
}

// finish withdraws an inquiry, unless that has happened.
func (a *Adapter) finish(q *asked, why Reason) {
	if a.inquiries[q.Name] == q {
		a.withdraw(q, why)
	}
}

// withdraw tells of the end of an inquiry.
func (a *Adapter) withdraw(q *asked, why Reason) {
	delete(a.inquiries, q.Name)
	q.release()
	if why == Died {
		a.bury(q.Found)
	}
	a.events.Withdrawn(q.Inquiry, why)
}

func (q *asked) release() {
	if q.timer != nil {
		q.timer.Stop()
	}
	if q.process != nil {
		_ = q.process.Close()
	}
}

// expired reports whether the time of a request is over. Timers of Go run on
// the clock of NotAfter, CLOCK_MONOTONIC.
func expired(notAfter uint64) bool { return notAfter != 0 && protocol.Now() >= notAfter }

// left is the time until then, rounded up.
func left(notAfter uint64) time.Duration {
	now := protocol.Now()
	if notAfter <= now {
		return 0
	}
	return time.Duration(min(notAfter-now, math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
}
