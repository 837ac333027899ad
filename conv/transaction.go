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

// start is pam_start, the items and the environment.
func (t *transaction) start() *failure {
	const phase = worker.Phase_PHASE_START
	if err := t.startPAM(); err != nil {
		return pamFailure(phase, "pam_start", status(err))
	}
	if err := guard(t.pam); err != nil {
		return t.failed(phase, "pam_set_item of PAM_CONV", err)
	}
	if err := delayFailures(t.pam); err != nil {
		return t.failed(phase, "pam_set_item of PAM_FAIL_DELAY", err)
	}
	ruser, f := t.requester()
	if f != nil {
		return f
	}
	for _, item := range []struct {
		item  pam.Item
		name  string
		value string
	}{
		{pam.Tty, "PAM_TTY", t.tty()},
		{pam.Rhost, "PAM_RHOST", t.options.GetRhost()},
		{pam.Ruser, "PAM_RUSER", ruser},
		{xdisplay, "PAM_XDISPLAY", t.options.GetXdisplay()},
	} {
		if item.value == "" {
			continue
		}
		if err := t.pam.SetItem(item.item, item.value); err != nil {
			return pamFailure(phase, "pam_set_item of "+item.name, status(err))
		}
	}
	for _, entry := range t.options.GetEnvironment() {
		if err := t.pam.PutEnv(entry); err != nil {
			return pamFailure(phase, "pam_putenv", status(err))
		}
	}
	return nil
}

// tty is what modules take for the terminal: what the opener says, or where the
// command will be.
func (t *transaction) tty() string {
	if tty := t.options.GetTty(); tty != "" || t.terminal == nil {
		return tty
	}
	return t.terminal.name
}

func (t *transaction) startPAM() (err error) {
	if t.dir == "" {
		t.pam, err = pam.Start(t.service, t.user, t.conversation)
	} else {
		t.pam, err = pam.StartConfDir(t.service, t.user, t.conversation, t.dir)
	}
	return t.reached(err, step{worker.Phase_PHASE_END, "pam_end", func() error { return t.pam.End() }})
}

// authenticate asks again, in the same transaction, after an answer that was
// wrong; why it was stands above the next question. Where nothing was asked,
// nobody could do better the next time (and pam_faillock would count on).
func (t *transaction) authenticate() *failure {
	for attempt := uint32(1); ; attempt++ {
		asked := t.session.questions()
		f := t.call(worker.Phase_PHASE_AUTHENTICATE, attempt, "pam_authenticate", func() error {
			return t.authenticateOnce()
		})
		if f == nil || f.status != pam.ErrAuth || f.code != authenticationFailed || attempt >= t.options.GetAttempts() {
			return f
		}
		if t.session.questions() == asked {
			return f
		}
		t.session.say(worker.Style_STYLE_ERROR, f.status.Error())
	}
}

// authenticateOnce gives an unknown user the status of a wrong answer: nobody
// is to find out which names exist.
func (t *transaction) authenticateOnce() error {
	err := t.pam.Authenticate(t.silent)
	if status(err) == pam.ErrUserUnknown {
		return pam.ErrAuth
	}
	return err
}

// checkAccount is pam_acct_mgmt, and the change of the password when that is
// the condition.
func (t *transaction) checkAccount() *failure {
	f := t.call(worker.Phase_PHASE_ACCOUNT, 0, "pam_acct_mgmt", func() error {
		return t.pam.AcctMgmt(t.silent)
	})
	if f == nil || f.status != pam.ErrNewAuthtokReqd || f.code != accountUnavailable {
		return f
	}
	return t.call(worker.Phase_PHASE_CHANGE_TOKEN, 0, "pam_chauthtok", func() error {
		return t.pam.ChangeAuthTok(t.silent | pam.ChangeExpiredAuthtok)
	})
}

// establish sets the groups of the user, which modules may add to, and then the
// credentials.
func (t *transaction) establish() *failure {
	return t.call(worker.Phase_PHASE_CREDENTIALS, 0, "pam_setcred", func() error {
		if err := t.initGroups(); err != nil {
			return err
		}
		err := t.pam.SetCred(t.silent | pam.EstablishCred)
		return t.reached(err, step{worker.Phase_PHASE_DELETE_CREDENTIALS, "pam_setcred", func() error {
			return t.pam.SetCred(t.silent | pam.DeleteCred)
		}})
	})
}

func (t *transaction) openSession() *failure {
	return t.call(worker.Phase_PHASE_SESSION, 0, "pam_open_session", func() error {
		err := t.pam.OpenSession(t.silent)
		return t.reached(err, step{worker.Phase_PHASE_CLOSE_SESSION, "pam_close_session", func() error {
			return t.pam.CloseSession(t.silent)
		}})
	})
}

// environment is pam_getenvlist, sorted.
func (t *transaction) environment() ([][]byte, *failure) {
	variables, err := t.pam.GetEnvList()
	if err != nil {
		return nil, pamFailure(worker.Phase_PHASE_SESSION, "pam_getenvlist", status(err))
	}
	environment, size := make([][]byte, 0, len(variables)), 0
	for name, value := range variables {
		environment = append(environment, []byte(name+"="+value))
		size += len(name) + len(value) + 2
	}
	if size > worker.MaxEnvironment {
		return nil, t.ownFailure(worker.Phase_PHASE_SESSION, fmt.Sprintf("the PAM environment is over %d bytes", worker.MaxEnvironment))
	}
	slices.SortFunc(environment, slices.Compare[[]byte])
	return environment, nil
}

// wants tells whether the caller asked for a phase; none named is all.
func (t *transaction) wants(phase worker.Phase) bool {
	phases := t.options.GetPhases()
	return len(phases) == 0 || slices.Contains(phases, phase)
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

// checkPhases allows the four that a caller may choose, each once.
func checkPhases(phases []worker.Phase) error {
	for i, phase := range phases {
		switch phase {
		case worker.Phase_PHASE_AUTHENTICATE, worker.Phase_PHASE_ACCOUNT,
			worker.Phase_PHASE_CREDENTIALS, worker.Phase_PHASE_SESSION:
		default:
			return fmt.Errorf("the phase %d is none of authenticate, account, credentials, session", phase)
		}
		if slices.Contains(phases[:i], phase) {
			return fmt.Errorf("the phase %s is named twice", phase.Word())
		}
	}
	return nil
}
