// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// xdisplay is PAM_XDISPLAY, which msteinert/pam has no name for.
const xdisplay pam.Item = 11

// transaction is one PAM transaction, from pam_start to pam_end. Everything of
// it runs on the main thread.
type transaction struct {
	session *session
	dir     string // for pam_start_confdir
	log     *slog.Logger

	service, user string
	options       *worker.Options
	silent        pam.Flags // for every call that has flags
	owner         *worker.Owner
	expected      *uint32  // the uid that policy took the user for; nil when it did not ask
	account       *account // nil while NSS does not know the user
	command       *worker.Command
	limits        limits     // for the command
	processes     *processes // nil before the command runs, and without one
	terminal      *terminal  // of the command; nil without one
	lent          *uint32    // whose the terminal is meanwhile; nil while it is its owner's
	conversation  *conversation
	pam           *pam.Transaction
	own           *belongings
	undo          []step // of what was reached, in that order
}

// step is what undoes another one.
type step struct {
	phase    worker.Phase
	function string
	call     func() error
}

func newTransaction(s *session, c Config) *transaction {
	start := s.start()
	log := c.Log.With("session", start.GetSession())
	t := &transaction{
		session:  s,
		dir:      c.PAMDir,
		log:      log,
		service:  start.GetService(),
		user:     start.GetUser(),
		options:  start.GetOptions(),
		owner:    start.GetOwner(),
		expected: start.UserUid,
		command:  start.GetCommand(),
		conversation: &conversation{
			session: s,
			timeout: duration(start.GetOptions().GetTimeoutUsec()),
			supply:  newSupply(c.Credentials, start, log),
		},
	}
	if t.options.GetSilent() {
		t.silent = pam.Silent
	}
	return t
}

// run takes the transaction from its start to its end, whatever happens.
func (t *transaction) run() {
	t.own = noteBelongings()
	t.conversation.own = t.own
	failed := t.check()
	if failed == nil {
		failed = t.open()
	}
	opened, closed, why := failed == nil, t.session.isClosed(), ""
	if opened {
		why = t.attend()
	}
	t.returnTerminal()
	t.session.dropStdio() // of a command that never ran
	undone := t.tearDown()
	switch {
	case !opened && !closed:
		t.log.Info("the session failed", "error", failed.code, "text", failed.text)
		t.session.fail(failed)
	case undone != nil:
		t.session.end(undone.status, undone.text)
	case !opened:
		t.session.end(success, "closed before it opened")
	default:
		t.session.end(success, why)
	}
}

// check refuses what libpam would misunderstand, before it is there.
func (t *transaction) check() *failure {
	err := cmp.Or(
		checkUser(t.user),
		checkPhases(t.options.GetPhases()),
		findService(t.dir, t.service),
		useLocale(t.options.GetLocale()),
		t.meetTerminal(),
	)
	if err != nil {
		return &failure{code: invalidArgument, phase: worker.Phase_PHASE_START, text: err.Error()}
	}
	return nil
}

// open is what login programs do, in their order. What it reached is undone by
// tearDown, also when it fails.
func (t *transaction) open() *failure {
	t.session.enter(worker.Phase_PHASE_START, 0)
	t.findAccount()
	if f := t.start(); f != nil {
		return f
	}
	if t.wants(worker.Phase_PHASE_AUTHENTICATE) {
		if f := t.authenticate(); f != nil {
			return f
		}
	}
	if t.wants(worker.Phase_PHASE_ACCOUNT) {
		if f := t.checkAccount(); f != nil {
			return f
		}
	}
	if f := t.session.await(); f != nil {
		return f
	}
	if t.wants(worker.Phase_PHASE_CREDENTIALS) {
		if f := t.establish(); f != nil {
			return f
		}
	}
	t.lendLimits()
	if t.wants(worker.Phase_PHASE_SESSION) {
		if f := t.openSession(); f != nil {
			return f
		}
	}
	if err := t.takeLimits(); err != nil {
		return t.ownFailure(worker.Phase_PHASE_SESSION, err.Error())
	}
	environment, f := t.environment()
	if f != nil {
		return f
	}
	if t.session.isClosed() {
		return &failure{} // Close says it all
	}
	pid, f := t.startCommand(environment)
	if f != nil {
		return f
	}
	t.session.open(&worker.Opened{
		Environment: environment,
		Pid:         pid,
		OpenedUsec:  uint64(now(unix.CLOCK_REALTIME).Microseconds()),
	})
	return nil
}

// reached notes what undoes a step, if it worked: also one that turns out later
// to have done what it should not.
func (t *transaction) reached(err error, undo step) error {
	if err == nil {
		t.undo = append(t.undo, undo)
	}
	return err
}

// call runs one function of libpam, unless the session was closed meanwhile. It
// makes sure that the user is still the one that policy allowed, and that no
// module changed whom it is about (CVE-2024-9313).
func (t *transaction) call(phase worker.Phase, attempt uint32, function string, f func() error) *failure {
	if t.session.isClosed() {
		return &failure{} // Close says it all
	}
	t.session.enter(phase, attempt)
	if f := t.identify(phase); f != nil {
		return f
	}
	t.conversation.reset()
	err := f()
	t.own.restore(t.session)
	lost := t.conversation.lost
	t.conversation.reset()
	if err != nil && lost != 0 {
		return lostFailure(phase, function, status(err), lost)
	}
	if err != nil && status(err) != pam.ErrNewAuthtokReqd {
		return t.failed(phase, function, err)
	}
	if user, userErr := t.pam.GetItem(pam.User); userErr != nil || user != t.user {
		return t.ownFailure(phase, fmt.Sprintf("a module changed the user from %q to %q", t.user, user))
	}
	if err != nil {
		return t.failed(phase, function, err)
	}
	return nil
}

// tearDown undoes what was reached, in reverse, and goes on when a step fails.
// It returns the first failure. Nobody waits for the questions of teardown.
func (t *transaction) tearDown() *failure {
	t.session.refuse()
	var first *failure
	for _, s := range slices.Backward(t.undo) {
		t.session.enter(s.phase, 0)
		t.conversation.reset()
		err := s.call()
		t.own.restore(t.session)
		t.conversation.reset()
		if err == nil {
			continue
		}
		f := pamFailure(s.phase, s.function, status(err))
		t.log.Warn("close PAM", "error", f.text)
		if first == nil {
			first = f
		}
	}
	t.undo = nil
	return first
}

// failed is a call that did not work: libpam's, or one of our own before it.
func (t *transaction) failed(phase worker.Phase, function string, err error) *failure {
	if pamErr := pam.Error(0); !errors.As(err, &pamErr) {
		return t.ownFailure(phase, err.Error())
	}
	return pamFailure(phase, function, status(err))
}

// ownFailure is one that libpam knows nothing of.
func (t *transaction) ownFailure(phase worker.Phase, text string) *failure {
	return &failure{code: pamFailed, status: pam.ErrSystem, phase: phase, text: text}
}

// status is what libpam returned.
func status(err error) pam.Error {
	if err == nil {
		return success
	}
	s := pam.ErrSystem
	_ = errors.As(err, &s)
	return s
}
