// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"testing"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

func TestEveryErrorNameIsOneOfTheContract(t *testing.T) {
	for _, name := range []string{
		invalidArgument, limitExceeded, noSuchPrompt, alreadyAnswered, authenticationFailed, accountUnavailable,
		unavailable, maxTries, pamFailed, workerFailed, cancelled, timedOut,
	} {
		if !api.Code(name).Known() {
			t.Errorf("%s is not an error of the contract", name)
		}
	}
}

// TestWhatAStatusMeans goes through every status that a module can return, in
// every phase: nothing of it may look like success, or name nothing.
func TestWhatAStatusMeans(t *testing.T) {
	special := map[worker.Phase]map[pam.Error]string{
		worker.Phase_PHASE_AUTHENTICATE: {
			pam.ErrAuth: authenticationFailed, pam.ErrUserUnknown: authenticationFailed,
			pam.ErrCredInsufficient: authenticationFailed, pam.ErrPermDenied: authenticationFailed,
			pam.ErrAuthinfoUnavail: unavailable, pam.ErrMaxtries: maxTries,
		},
		worker.Phase_PHASE_ACCOUNT: {
			pam.ErrAcctExpired: accountUnavailable, pam.ErrPermDenied: accountUnavailable,
			pam.ErrUserUnknown: accountUnavailable, pam.ErrAuth: accountUnavailable,
			pam.ErrAuthtokExpired: accountUnavailable, pam.ErrNewAuthtokReqd: accountUnavailable,
			pam.ErrAuthtok: accountUnavailable, pam.ErrAuthtokLockBusy: accountUnavailable,
			pam.ErrAuthtokRecovery: accountUnavailable, pam.ErrAuthtokDisableAging: accountUnavailable,
			pam.ErrCredExpired: accountUnavailable, pam.ErrTryAgain: accountUnavailable,
			pam.ErrMaxtries: accountUnavailable, pam.ErrAuthinfoUnavail: unavailable,
		},
	}
	special[worker.Phase_PHASE_CHANGE_TOKEN] = special[worker.Phase_PHASE_ACCOUNT]
	for number := range worker.Phase_name {
		phase := worker.Phase(number)
		for status := pam.Error(1); int(status) < len(statusNames); status++ {
			want, ok := special[phase][status]
			if !ok {
				want = pamFailed
			}
			f := pamFailure(phase, "pam_x", status)
			if f.code != want || f.status != status || f.phase != phase {
				t.Errorf("%s in %v is %s, not %s", statusName(status), phase, f.code, want)
			}
			if text := "pam_x: " + status.Error() + " (" + statusNames[status] + ")"; f.text != text {
				t.Errorf("%s says %q", statusName(status), f.text)
			}
		}
	}
}

func TestStatusNames(t *testing.T) {
	for status, want := range map[pam.Error]string{
		pam.ErrOpen: "PAM_OPEN_ERR", pam.ErrAuth: "PAM_AUTH_ERR", pam.ErrConv: "PAM_CONV_ERR",
		pam.ErrAbort: "PAM_ABORT", pam.ErrIncomplete: "PAM_INCOMPLETE",
		-1: "unknown PAM status -1", 32: "unknown PAM status 32",
	} {
		if got := statusName(status); got != want {
			t.Errorf("the name of %d is %s, not %s", int(status), got, want)
		}
	}
}

func TestPhaseNames(t *testing.T) {
	for phase, want := range map[worker.Phase]string{
		worker.Phase_PHASE_AUTHENTICATE:  "authenticate",
		worker.Phase_PHASE_CLOSE_SESSION: "close-session",
	} {
		if got := phase.Word(); got != want {
			t.Errorf("the name of %v is %s, not %s", phase, got, want)
		}
	}
}
