// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api/worker"
)

// The last parts of the error names of the D-Bus interface that a worker has
// reason to use. Package api has the whole list and what they mean.
const (
	invalidArgument      = "InvalidArgument"
	limitExceeded        = "LimitExceeded"
	noSuchPrompt         = "NoSuchPrompt"
	alreadyAnswered      = "AlreadyAnswered"
	authenticationFailed = "AuthenticationFailed"
	accountUnavailable   = "AccountUnavailable"
	unavailable          = "Unavailable"
	maxTries             = "MaxTries"
	pamFailed            = "PAMFailed"
	workerFailed         = "WorkerFailed"
	cancelled            = "Cancelled"
	timedOut             = "TimedOut"
	commandFailed        = "CommandFailed"
)

// success is PAM_SUCCESS.
const success pam.Error = 0

// failure is why a session did not open, or did not close well.
type failure struct {
	code   string
	status pam.Error // what libpam returned; ErrSystem when it is not libpam that failed
	phase  worker.Phase
	text   string
}

// pamFailure says what a status of a function of libpam means in a phase.
func pamFailure(phase worker.Phase, function string, status pam.Error) *failure {
	return &failure{
		code:   code(phase, status),
		status: status,
		phase:  phase,
		text:   fmt.Sprintf("%s: %s (%s)", function, status.Error(), statusName(status)),
	}
}

// lostFailure is a status that came of a question that nobody answered,
// whatever the module made of that.
func lostFailure(phase worker.Phase, function string, status pam.Error, lost worker.Outcome) *failure {
	f := &failure{code: cancelled, status: status, phase: phase}
	switch lost {
	case worker.Outcome_OUTCOME_EXPIRED:
		f.code = timedOut
		f.text = "nobody answered a question of " + function + " in time"
	case worker.Outcome_OUTCOME_SESSION_CLOSED:
		f.text = "the session was closed during " + function
	default:
		f.text = "a question of " + function + " was cancelled"
	}
	f.text += " (" + statusName(status) + ")"
	return f
}

func code(phase worker.Phase, status pam.Error) string {
	switch phase {
	case worker.Phase_PHASE_AUTHENTICATE:
		return authenticateCode(status)
	case worker.Phase_PHASE_ACCOUNT, worker.Phase_PHASE_CHANGE_TOKEN:
		return accountCode(status)
	}
	return pamFailed
}

func authenticateCode(status pam.Error) string {
	switch status {
	case pam.ErrAuth, pam.ErrUserUnknown, pam.ErrCredInsufficient, pam.ErrPermDenied:
		return authenticationFailed
	case pam.ErrAuthinfoUnavail:
		return unavailable
	case pam.ErrMaxtries:
		return maxTries
	}
	return pamFailed
}

func accountCode(status pam.Error) string {
	switch status {
	case pam.ErrAuthinfoUnavail:
		return unavailable
	case pam.ErrAcctExpired, pam.ErrPermDenied, pam.ErrUserUnknown, pam.ErrAuth, pam.ErrCredExpired,
		pam.ErrNewAuthtokReqd, pam.ErrAuthtok, pam.ErrAuthtokRecovery, pam.ErrAuthtokLockBusy,
		pam.ErrAuthtokDisableAging, pam.ErrAuthtokExpired, pam.ErrTryAgain, pam.ErrMaxtries:
		return accountUnavailable
	}
	return pamFailed
}

// statusNames are those of _pam_types.h, at the index of their number.
var statusNames = [...]string{
	"PAM_SUCCESS", "PAM_OPEN_ERR", "PAM_SYMBOL_ERR", "PAM_SERVICE_ERR", "PAM_SYSTEM_ERR", "PAM_BUF_ERR",
	"PAM_PERM_DENIED", "PAM_AUTH_ERR", "PAM_CRED_INSUFFICIENT", "PAM_AUTHINFO_UNAVAIL", "PAM_USER_UNKNOWN",
	"PAM_MAXTRIES", "PAM_NEW_AUTHTOK_REQD", "PAM_ACCT_EXPIRED", "PAM_SESSION_ERR", "PAM_CRED_UNAVAIL",
	"PAM_CRED_EXPIRED", "PAM_CRED_ERR", "PAM_NO_MODULE_DATA", "PAM_CONV_ERR", "PAM_AUTHTOK_ERR",
	"PAM_AUTHTOK_RECOVERY_ERR", "PAM_AUTHTOK_LOCK_BUSY", "PAM_AUTHTOK_DISABLE_AGING", "PAM_TRY_AGAIN",
	"PAM_IGNORE", "PAM_ABORT", "PAM_AUTHTOK_EXPIRED", "PAM_MODULE_UNKNOWN", "PAM_BAD_ITEM", "PAM_CONV_AGAIN",
	"PAM_INCOMPLETE",
}

func statusName(status pam.Error) string {
	if status >= 0 && int(status) < len(statusNames) {
		return statusNames[status]
	}
	return fmt.Sprintf("unknown PAM status %d", int(status))
}
