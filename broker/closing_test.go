// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api/worker"
)

// What Close ends has its time, and PAM has its time after it: a worker that is killed
// in between leaves modules without their pam_close_session.
func TestACommandHasItsTimeToCloseBeforePAM(t *testing.T) {
	b := &Broker{config: Config{CloseTimeout: time.Minute}}
	for _, test := range []struct {
		name    string
		command *worker.Command
		want    time.Duration
	}{
		{"without a command", nil, time.Minute + killAfter},
		{"with a command", &worker.Command{Arguments: []string{"true"}}, 2*time.Minute + killAfter},
	} {
		s := newTransaction(b, &worker.Start{Session: 1, User: "anna", Command: test.command}, nil)
		if got := s.patience(); got != test.want {
			t.Errorf("the worker of a session %s may take %v to close, not %v", test.name, got, test.want)
		}
	}
}
