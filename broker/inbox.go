// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/broker/askpassword"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// inbox makes prompts of the requests that other programs put into the
// ask-password directory. Its methods run in the adapter.
type inbox struct{ b *Broker }

// Asked is a new request.
func (in inbox) Asked(i *askpassword.Inquiry) {
	b := in.b
	number, err := b.numbers.next(context.Background())
	if err != nil {
		return
	}
	q := &prompt{
		number:  number,
		asker:   &inquiry{b, i},
		style:   api.StyleSecret,
		message: clean([]byte(i.Message)),
		details: inquiryDetails(i),
	}
	if i.Echo {
		q.style = api.StyleVisible
	}
	b.post(func() {
		b.inquiries[i] = b.newPrompt(q)
		b.log.Info("another program asks", "prompt", number, "file", i.Name, "pid", i.PID, "id", i.ID)
	})
}

// Withdrawn is the end of a request, whatever became of its prompt.
func (in inbox) Withdrawn(i *askpassword.Inquiry, why askpassword.Reason) {
	b := in.b
	b.post(func() {
		q := b.inquiries[i]
		delete(b.inquiries, i)
		if q == nil || !q.waits() {
			return
		}
		if why == askpassword.Expired {
			q.end(api.OutcomeExpired)
			return
		}
		q.end(vanished(i))
	})
}

// vanished is how the question of a request ends that was taken back. A program
// whose time is over does that at the moment when we see that it is over.
// Before, somebody else has answered or it was given up: nobody says.
func vanished(i *askpassword.Inquiry) string {
	if i.NotAfter != 0 && protocol.Now() >= i.NotAfter {
		return api.OutcomeExpired
	}
	return api.OutcomeSessionClosed
}

// inquiryDetails are the circumstances of a question of another program, as its
// file tells them: only root can have written it.
func inquiryDetails(i *askpassword.Inquiry) map[string]dbus.Variant {
	d := map[string]any{"source": api.SourceAskPassword, "owner-uid": i.UID, "index": uint32(0)}
	unit, comm := bus.DescribeProcess(uint32(i.PID))
	for name, text := range map[string]string{"owner-unit": unit, "owner-comm": comm, "request-id": clean([]byte(i.ID))} {
		if text != "" {
			d[name] = text
		}
	}
	if i.PID != 0 {
		d["owner-pid"] = uint32(i.PID)
	}
	if i.NotAfter != 0 {
		d["expires"] = i.NotAfter
	}
	return variants(d)
}

// inquiry is another program that waits for an answer.
type inquiry struct {
	b *Broker
	*askpassword.Inquiry
}

// object makes the prompt one of whoever the file belongs to, who is root on a
// system.
func (i *inquiry) object() policy.Object {
	return policy.Object{Exists: true, OwnerUID: i.UID}
}

func (i *inquiry) path() dbus.ObjectPath { return "/" }

func (i *inquiry) hearers() []*client { return nil }

func (i *inquiry) waiting() []*prompt {
	if q := i.b.inquiries[i.Inquiry]; q != nil {
		return []*prompt{q}
	}
	return nil
}

func (i *inquiry) about() []slog.Attr { return nil }

// mirror does nothing: the question is where systemd's agents look already.
func (i *inquiry) mirror(*prompt) {}

func (i *inquiry) ended(*prompt) { i.b.forget(i) }

// answer sends an answer to the program. This one the broker has to read, into
// locked memory: the protocol wants it in a datagram, behind a sign. Whether it
// was the right one nobody hears; a program asks again with a new request.
func (i *inquiry) answer(q *prompt, c *claim, f *os.File) error {
	answer, err := secret.FromMemfd(f)
	if err != nil {
		return err
	}
	defer answer.Wipe()
	if bytes.IndexByte(answer.Bytes(), 0) >= 0 {
		return invalid("the response holds a NUL byte, which ends an answer in this protocol")
	}
	switch err := i.Answer(answer); {
	case errors.Is(err, secret.ErrTooLong):
		return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("the response is longer than %d bytes, which systemd's programs do not take", protocol.MaxForeign)}
	case errors.Is(err, protocol.ErrGone):
		outcome := vanished(i.Inquiry)
		q.end(outcome)
		return ended(q.number, outcome)
	case errors.Is(err, protocol.ErrBusy):
		return &api.Error{Code: api.WorkerFailed, Text: fmt.Sprintf("whoever asked prompt %d does not read answers at present: try again", q.number)}
	case err != nil:
		return err
	}
	i.b.auditPrompt(eventAnswer, c.by, q)
	c.verdict <- nil
	q.end(api.OutcomeAnswered)
	return nil
}

// cancel tells the program that nobody answers.
func (i *inquiry) cancel(q *prompt) {
	if err := i.Cancel(); err != nil && !errors.Is(err, protocol.ErrGone) {
		i.b.log.Warn("a program could not be told that its question is cancelled", "prompt", q.number, "error", err)
		return
	}
	q.end(api.OutcomeCancelled)
}
