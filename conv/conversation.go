// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/libpamc"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
)

// radioType is PAM_RADIO_TYPE, which msteinert/pam has no name for.
const radioType pam.Style = 5

// choices are what _pam_types.h says a PAM_RADIO_TYPE message offers.
var choices = []string{"yes", "no", "maybe"}

// errNoAnswer becomes PAM_CONV_ERR, as every error of a handler does.
var errNoAnswer = errors.New("no answer")

// conversation is what modules talk to; libpam calls it on the main thread.
type conversation struct {
	session *session
	own     *belongings
	timeout time.Duration // of a question; 0 is for ever
	supply  *supply       // for the first secret question; nil for none, and after it
	// lent is the answer that libpam was given last. msteinert/pam copies it
	// after the handler has returned, so it is wiped when the module asks again
	// or when the call of libpam ends, not before.
	lent *secret.Secret
	// lost is how a question of this call of libpam ended without an answer.
	lost worker.Outcome
}

// reset is called before and after each call of libpam.
func (c *conversation) reset() {
	c.lend(nil)
	c.lost = 0
	wipeLeftovers()
}

// RespondPAM is called for every message but binary ones.
func (c *conversation) RespondPAM(style pam.Style, text string) (string, error) {
	c.own.whole(c.session)
	switch style {
	case pam.TextInfo:
		c.session.say(worker.Style_STYLE_INFO, text)
		return "", nil
	case pam.ErrorMsg:
		c.session.say(worker.Style_STYLE_ERROR, text)
		return "", nil
	case pam.PromptEchoOff:
		return c.askSecret(text)
	case pam.PromptEchoOn:
		return c.askText(&worker.Prompt{Style: worker.Style_STYLE_VISIBLE, Text: worker.Cut(text, worker.MaxText)})
	case radioType:
		return c.askText(&worker.Prompt{Style: worker.Style_STYLE_CHOICE, Text: worker.Cut(text, worker.MaxText), Choices: choices})
	}
	return "", fmt.Errorf("a module's message has the style %d, which pam_conv(3) does not know", style)
}

// RespondPAMBinary is called for PAM_BINARY_PROMPT.
func (c *conversation) RespondPAMBinary(packet pam.BinaryPointer) ([]byte, error) {
	c.own.whole(c.session)
	binary, err := libpamc.Copy(unsafe.Pointer(packet))
	if err != nil {
		c.session.log.Warn("a module sent a binary prompt", "error", err)
		return nil, err
	}
	return c.ask(&worker.Prompt{Style: worker.Style_STYLE_BINARY, Binary: binary})
}

// askSecret lets the first secret question be answered by what was supplied for
// it. Whether it was or not, all others are for people.
func (c *conversation) askSecret(text string) (string, error) {
	supply := c.supply
	c.supply = nil
	answer, name := supply.answer()
	if answer != nil && c.session.supplied() {
		supply.log.Info("a credential answered the first secret question", "credential", name)
		c.lend(answer)
		return lentText(answer.Bytes()), nil
	}
	answer.Wipe()
	return c.askText(&worker.Prompt{Style: worker.Style_STYLE_SECRET, Text: worker.Cut(text, worker.MaxText)})
}

func (c *conversation) askText(p *worker.Prompt) (string, error) {
	answer, err := c.ask(p)
	return lentText(answer), err
}

// lentText is not a copy: a string cannot be wiped, the memory under this one
// is.
func lentText(answer []byte) string { return unsafe.String(unsafe.SliceData(answer), len(answer)) }

// lend wipes the answer that libpam had before, and keeps the next one for it,
// in a process that nobody can look into or dump.
func (c *conversation) lend(answer *secret.Secret) {
	c.lent.Wipe()
	c.lent = answer
	if err := secret.NotDumpable(); err != nil {
		c.session.log.Error("before libpam has an answer", "error", err)
	}
}

// ask waits for the answer to a question. It stays valid until the next call or
// reset.
func (c *conversation) ask(p *worker.Prompt) ([]byte, error) {
	c.lend(nil)
	again, err := room()
	if err != nil {
		c.session.log.Error("a question is not put", "session", c.session.start().GetSession(), "why", err)
		return nil, err
	}
	defer again()
	var expired <-chan time.Time
	if c.timeout > 0 {
		p.ExpiresUsec = uint64((now(unix.CLOCK_MONOTONIC) + c.timeout).Microseconds())
		timer := time.NewTimer(c.timeout)
		defer timer.Stop()
		expired = timer.C
	}
	q := c.session.ask(p)
	if q == nil {
		c.lost = worker.Outcome_OUTCOME_SESSION_CLOSED
		return nil, errNoAnswer
	}
	r := c.wait(q, expired)
	if r.answer == nil {
		c.lost = r.outcome
		return nil, errNoAnswer
	}
	c.lend(r.answer)
	return r.answer.Bytes(), nil
}

func (c *conversation) wait(q *question, expired <-chan time.Time) reply {
	select {
	case r := <-q.reply:
		return r
	case <-expired:
		// An answer that came at the same instant wins; either way there is one
		// reply.
		c.session.withdraw(q.prompt.GetIndex(), worker.Outcome_OUTCOME_EXPIRED)
		return <-q.reply
	}
}

// refusal is why an answer was not taken.
type refusal struct{ code, text string }

// short is for an answer that can be taken at another time. The log is told once. The
// caller holds the lock.
func (s *session) short(err error) *refusal {
	s.shortage.Do(func() {
		s.log.Error("an answer is not taken", "session", s.state.GetStart().GetSession(), "why", err)
	})
	return &refusal{limitExceeded, "the worker cannot take an answer at present, try again: " + err.Error()}
}

// readAnswer takes an answer out of a sealed memfd. The caller holds the lock.
func (s *session) readAnswer(style worker.Style, f *os.File) (*secret.Secret, *refusal) {
	answer, err := secret.FromMemfd(f)
	if errors.Is(err, secret.ErrTooLong) {
		return nil, &refusal{limitExceeded, "the response is longer than 64 KiB"}
	}
	if errors.Is(err, secret.ErrNoMemory) {
		return nil, s.short(err)
	}
	if err != nil {
		return nil, &refusal{invalidArgument, err.Error()}
	}
	if style == worker.Style_STYLE_BINARY {
		defer answer.Wipe()
		return s.decodePacket(answer.Bytes())
	}
	if bytes.IndexByte(answer.Bytes(), 0) >= 0 {
		answer.Wipe()
		return nil, &refusal{invalidArgument, "the response holds a NUL byte, which no PAM module can take"}
	}
	return answer, nil
}

// now reads a clock of the system.
func now(clock int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		panic("clock_gettime: " + err.Error()) // only for a clock that does not exist
	}
	return time.Duration(t.Nano())
}

// duration converts microseconds off the wire; more than a century is one.
func duration(usec uint64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(usec, uint64(century.Microseconds()))) * time.Microsecond
}
