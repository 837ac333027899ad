// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/policy"
)

// conversation is the asker of a session that has no worker: a program that runs PAM
// itself, and puts the questions of its modules with Ask. It is here alone, and ends
// with the broker.
type conversation struct {
	s         *session
	questions map[uint64]*question
	index     uint32                 // of the next question
	messages  []*worker.Message      // said since the last one
	unread    map[*response]struct{} // answers that their readers have not taken whole

	screen  uint64 // the key of its texts on the splash
	noticed bool   // there is one
}

// question is a prompt of a conversation.
type question struct {
	prompt   *prompt
	asked    *worker.Prompt
	response *response
	expiry   *time.Timer // nil if it waits for ever
	late     bool        // its time was over while an answer was on its way
}

// converse makes a session of what somebody asked for. It runs in the owner.
func (b *Broker) converse(start *worker.Start, owner *client) *session {
	s := b.newSession(start)
	b.screens++
	s.conversation = &conversation{
		s: s, questions: make(map[uint64]*question), unread: make(map[*response]struct{}), screen: b.screens,
	}
	if uid := start.UserUid; uid != nil { // by the word of root
		s.resolved, s.uid = true, *uid
	}
	s.state, s.opened, s.openedAt = api.StateOpen, true, uint64(time.Now().UnixMicro())
	b.add(s, owner)
	s.announce()
	return s
}

func (c *conversation) object() policy.Object { return c.s.object() }

func (c *conversation) path() dbus.ObjectPath { return c.s.path() }

func (c *conversation) hearers() []*client { return c.s.hearersOf(c) }

func (c *conversation) about() []slog.Attr { return c.s.about() }

func (c *conversation) waiting() []*prompt {
	list := make([]*prompt, 0, len(c.questions))
	for _, number := range sortedNumbers(c.questions) {
		list = append(list, c.questions[number].prompt)
	}
	return list
}

// ask puts a question, which waits for so long; 0 is for ever. The response is the
// conversation's if there is no error.
func (c *conversation) ask(p *worker.Prompt, number uint64, r *response, timeout time.Duration) error {
	s, b := c.s, c.s.b
	owner := s.start.GetOwner().GetUid()
	most := b.limits(owner).prompts
	if u := b.charge(owner); u.prompts >= most {
		return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("%d questions of uid %d wait already", most, owner)}
	}
	p.Index, p.Messages = c.index, c.messages
	c.index++
	c.messages = nil
	if timeout > 0 {
		p.ExpiresUsec = protocol.Now() + uint64(timeout.Microseconds())
	}
	q := &prompt{
		number: number, asker: c, style: styleName(p.GetStyle()), message: clean(p.GetText()), details: details(s.start, p),
	}
	x := &question{prompt: q, asked: p, response: r}
	c.questions[number] = x
	s.put(q)
	b.responses.watch(r, func() { b.post(func() { c.withdrawn(q) }) })
	if timeout > 0 {
		x.expiry = b.after(timeout, func() { c.expire(x) })
	}
	b.newPrompt(q)
	c.hideNotice() // the question says it too
	c.mirror(q)
	s.notify()
	return nil
}

// tell passes on a text that wants no answer, and keeps it for the next question.
func (c *conversation) tell(m *worker.Message) {
	c.messages = worker.Keep(c.messages, m)
	if s := c.s; s.b.splash != nil && s.wantsAgents(c) {
		c.noticed = true
		s.b.splash.Show(c.screen, protocol.Notice(s.start.GetUser(), s.start.GetService(), string(m.GetText())))
	}
	c.s.say(c, styleName(m.GetStyle()), clean(m.GetText()))
}

func (c *conversation) hideNotice() {
	if c.noticed {
		c.noticed = false
		c.s.b.splash.Hide(c.screen)
	}
}

// mirror brings the copy for the system's agents in line with what is wanted. Into a
// user's own directory only a worker can put one, and there is none.
func (c *conversation) mirror(q *prompt) {
	if x := c.questions[q.number]; x != nil && q.copyable() {
		q.copied(c.s.wantsAgents(c), func() protocol.Request { return protocol.Ask(c.s.start, x.asked) })
	}
}

// answer sends an answer to the question's pipe.
func (c *conversation) answer(q *prompt, cl *claim, f *os.File) error {
	b, r := c.s.b, c.questions[q.number].response
	own, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pass on an answer: %w", err)
	}
	q.claim, cl.passed = cl, true
	b.responses.answer(r, os.NewFile(uintptr(own), "response"),
		func(rest bool, err error) { b.post(func() { c.taken(q, cl, r, rest, err) }) },
		func() { b.post(func() { c.read(r) }) })
	return nil
}

// taken is what became of an answer. As far as anybody can tell here it is the right
// one: the program hands it to PAM itself.
func (c *conversation) taken(q *prompt, cl *claim, r *response, rest bool, err error) {
	b, x := c.s.b, c.questions[q.number]
	if rest { // it stays on the owner's account for as long as it is not read
		b.charge(c.s.start.GetOwner().GetUid()).prompts++
		c.unread[r] = struct{}{}
		if c.s.over() {
			b.responses.end(r, api.OutcomeSessionClosed)
		}
	}
	switch {
	case !q.waits(): // a program that has its answer may be gone before we hear that it has it
		if err == nil {
			b.auditPrompt(eventAnswer, cl.by, q)
			cl.verdict <- nil
			return
		}
		past, _ := b.answered.find(q.number)
		cl.verdict <- ended(q.number, past.outcome)
	case err == nil:
		b.auditPrompt(eventAnswer, cl.by, q)
		q.release(nil)
		q.end(api.OutcomeAnswered)
	case errors.Is(err, unix.EPIPE):
		q.release(ended(q.number, api.OutcomeSessionClosed))
		c.withdrawn(q)
	default:
		b.log.Error("an answer could not be passed on", "prompt", q.number, "error", err)
		q.release(invalid("the response cannot be passed on: pass a sealed memfd or the reading end of a pipe"))
		if x.late {
			c.expire(x)
			return
		}
		q.mirror.again()
		c.mirror(q)
		c.s.notify()
	}
}

// read is called when an answer that had to wait for its reader does so no more.
func (c *conversation) read(r *response) {
	delete(c.unread, r)
	owner := c.s.start.GetOwner().GetUid()
	c.s.b.charge(owner).prompts--
	c.s.b.settle(owner)
}

// withdrawn is called when the program has closed its end of the pipe: it does not
// wait any more.
func (c *conversation) withdrawn(q *prompt) {
	if q.waits() {
		q.end(api.OutcomeSessionClosed)
	}
}

func (c *conversation) expire(x *question) {
	switch {
	case !x.prompt.waits():
	case x.prompt.claim != nil:
		x.late = true
	default:
		x.prompt.end(api.OutcomeExpired)
	}
}

// cancel gives a question up, unless an answer was first.
func (c *conversation) cancel(q *prompt) {
	if q.claim == nil {
		q.end(api.OutcomeCancelled)
	}
}

// ended tells the program how its question ended.
func (c *conversation) ended(q *prompt) {
	x := c.questions[q.number]
	delete(c.questions, q.number)
	if x.expiry != nil {
		x.expiry.Stop()
	}
	if past, _ := c.s.b.answered.find(q.number); past.outcome != api.OutcomeAnswered {
		c.s.b.responses.end(x.response, past.outcome)
	}
	c.s.drop(q)
}

// stop is the end of the conversation; nil has none.
func (c *conversation) stop() {
	if c == nil {
		return
	}
	c.hideNotice()
	for r := range c.unread {
		c.s.b.responses.end(r, api.OutcomeSessionClosed)
	}
	c.s.b.forget(c)
}

// openConversation checks, asks policy and makes the session, which is open at once.
func openConversation(b *Broker, ctx context.Context, t target) ([]any, error) {
	start, err := b.mayConverse(ctx, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if start.Session, err = b.numbers.next(ctx); err != nil {
		return nil, &api.Error{Code: api.LimitExceeded, Text: "too many sessions are being opened at once: try again"}
	}
	var s *session
	err = b.look(func() error {
		p := t.call.Caller
		if err := b.room(p.UID); err != nil {
			return err
		}
		owner := b.client(p)
		if owner == nil {
			return errCallerLeft
		}
		s = b.converse(start, owner)
		b.audit(slog.LevelInfo, "conversation begins", eventOpen, s.about(), callerOrigin(p).attrs())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []any{s.id, s.path()}, nil
}

// room is whether a uid may have one session more.
func (b *Broker) room(uid uint32) error {
	most := b.limits(uid).sessions
	defer b.settle(uid)
	if b.charge(uid).sessions >= most {
		return &api.Error{Code: api.LimitExceeded, Text: fmt.Sprintf("uid %d has %d sessions already: close one", uid, most)}
	}
	return nil
}
