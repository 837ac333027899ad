// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"slices"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api/worker"
)

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
