// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"encoding/base64"
	"log/slog"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/workers"
	"github.com/pamprompt/pamprompt/policy"
)

// transaction is a view of the PAM transaction that a worker holds, for a session.
type transaction struct {
	s      *session
	start  *worker.Start // what its worker was told
	worker *workers.Worker

	begun    bool // the worker has taken the Start
	ready    bool // it is an alternative that waits for its turn
	losing   bool // another one goes on: it is being closed, and nobody hears of it
	over     bool
	phase    worker.Phase
	attempt  uint32
	prompt   *prompt        // nil while it asks nothing
	question *worker.Prompt // of the prompt, or of the last one
	late     *time.Timer    // to kill
	slow     *time.Timer    // to give it to another worker; nil for one that was taken over

	screen   uint64       // the key of its texts on the splash
	noticed  worker.Style // of what the splash shows
	userFile bool         // the worker was told to put the prompt into the user's own directory
}

// newTransaction makes a transaction for a session, which join gives to it when its
// worker is bound.
func (s *session) newTransaction(start *worker.Start, w *workers.Worker) *transaction {
	s.b.screens++
	return &transaction{s: s, start: start, worker: w, phase: worker.Phase_PHASE_START, screen: s.b.screens}
}

// join gives a session one of its transactions.
func (s *session) join(t *transaction) {
	s.transactions = append(s.transactions, t)
	s.found(t.index())
	if s.b.sessions[s.id] == s {
		s.recharge()
	}
}

// object is the session's, with the service that asks: what rules say of that is what
// counts for its questions.
func (t *transaction) object() policy.Object {
	o := t.s.object()
	o.Service = t.start.GetService()
	return o
}

func (t *transaction) path() dbus.ObjectPath { return t.s.path() }

func (t *transaction) hearers() []*client { return t.s.hearersOf(t) }

func (t *transaction) waiting() []*prompt {
	if t.prompt == nil {
		return nil
	}
	return []*prompt{t.prompt}
}

// about is the session's, with the service that asks.
func (t *transaction) about() []slog.Attr {
	about := t.s.about()
	i := slices.IndexFunc(about, func(a slog.Attr) bool { return a.Key == "service" })
	about[i] = slog.String("service", t.start.GetService())
	return about
}

// ask makes a prompt of what a worker said, and tells everybody.
func (t *transaction) ask(p *worker.Prompt, number uint64) { t.pose(p, number, false) }

// pose is ask; one that is muted is there for the worker to withdraw it, and nobody is told.
func (t *transaction) pose(p *worker.Prompt, number uint64, muted bool) {
	s := t.s
	t.question = p
	q := &prompt{
		number:  number,
		asker:   t,
		style:   styleName(p.GetStyle()),
		message: clean(p.GetText()),
		details: details(t.start, p),
		muted:   muted,
	}
	t.prompt = q
	if !s.put(q) {
		owner := s.start.GetOwner().GetUid()
		s.b.log.Warn("a prompt is cancelled: too many of this uid wait", "session", s.id, "owner-uid", owner, "most", s.b.limits(owner).prompts)
		s.b.hold(q)
		q.muted = true
		t.cancel(q)
		return
	}
	s.b.newPrompt(q)
	t.hideNotice() // the question says it too
	t.mirror(q)
	s.notify()
}

// details are the circumstances of a question. Absent is what is not known.
func details(start *worker.Start, p *worker.Prompt) map[string]dbus.Variant {
	owner, options := start.GetOwner(), start.GetOptions()
	d := map[string]any{
		"service":   start.GetService(),
		"user":      start.GetUser(),
		"owner-uid": owner.GetUid(),
		"attempt":   max(p.GetAttempt(), 1),
		"index":     p.GetIndex(),
		"source":    api.SourcePAM,
	}
	if p.GetPhase() != worker.Phase_PHASE_UNSPECIFIED {
		d["phase"] = p.GetPhase().Word()
	}
	if owner.GetPid() != 0 {
		d["owner-pid"] = owner.GetPid()
	}
	for name, text := range map[string]string{
		"owner-unit": owner.GetUnit(),
		"owner-comm": owner.GetComm(),
		"reason":     options.GetReason(),
		"binary":     base64.StdEncoding.EncodeToString(p.GetBinary()),
	} {
		if text != "" {
			d[name] = text
		}
	}
	if p.GetExpiresUsec() != 0 {
		d["expires"] = p.GetExpiresUsec()
	}
	if command := shownCommand(start.GetCommand().GetArguments()); len(command) > 0 {
		d["command"] = command
	}
	if len(p.GetChoices()) > 0 {
		d["choices"] = p.GetChoices()
	}
	if len(p.GetMessages()) > 0 {
		d["messages"] = texts(p.GetMessages())
	}
	return variants(d)
}

// mirror brings the copies of the prompt, the one of the system's agents and the
// one of its user's, in line with what is wanted.
func (t *transaction) mirror(q *prompt) {
	if q == nil || q != t.prompt || !q.copyable() {
		return
	}
	s := t.s
	wanted := s.wantsAgents(t)
	q.copied(wanted, func() protocol.Request { return protocol.Ask(t.start, t.question) })
	// The worker takes what a user's own agent answers, so that the gate does
	// not see it: only for sessions that have none.
	if users := wanted && s.b.userFiles && s.resolved && s.b.isAdmin(s.start.GetOwner().GetUid()); users != t.userFile {
		t.mirrorTo(users)
	}
}

// mirrorTo has the worker put its prompt into the user's own directory, or take
// it away.
func (t *transaction) mirrorTo(users bool) {
	t.userFile = users
	t.send(&worker.ToWorker{Message: &worker.ToWorker_Mirror{Mirror: &worker.Mirror{Index: t.question.GetIndex(), Shown: users}}})
}

// lastWords is how long what a module complained of stays on the splash after
// its session has failed.
const lastWords = 5 * time.Second

// notice shows a text that wants no answer on the boot splash.
func (t *transaction) notice(m *worker.Message) {
	if t.s.b.splash == nil || !t.s.wantsAgents(t) {
		return
	}
	t.noticed = m.GetStyle()
	t.s.b.splash.Show(t.screen, protocol.Notice(t.start.GetUser(), t.start.GetService(), string(m.GetText())))
}

func (t *transaction) hideNotice() {
	if t.noticed != worker.Style_STYLE_UNSPECIFIED {
		t.noticed = worker.Style_STYLE_UNSPECIFIED
		t.s.b.splash.Hide(t.screen)
	}
}

// lastNotice lets somebody read why a session failed.
func (t *transaction) lastNotice(state string) {
	if t.noticed == worker.Style_STYLE_ERROR && state == api.StateFailed {
		t.noticed = worker.Style_STYLE_UNSPECIFIED
		t.s.b.after(lastWords, func() { t.s.b.splash.Hide(t.screen) })
	}
	t.hideNotice()
}
