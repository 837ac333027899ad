// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api/worker"
)

// A session that is closed while PAM checks an answer is not killed in the delay
// that follows a failure: whoever guesses would not have to wait for it.
func TestTheDelayOfAFailureOutlastsClose(t *testing.T) {
	b, _, idle := startOnBus(t)
	b.config.CloseTimeout = time.Second
	open := func(owner uint32, id uint64) *transaction {
		tr := newTransaction(b, &worker.Start{
			Session: id, Service: "vault", User: "anna", Owner: &worker.Owner{Uid: owner}, Options: &worker.Options{Attempts: 1},
		}, idle())
		b.add(tr.s, nil)
		tr.ask(&worker.Prompt{Style: worker.Style_STYLE_SECRET, Text: []byte("?")}, id+100)
		f, err := memfdOf("guess")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if err := tr.answer(tr.prompt, newClaim(origin{}), f); err != nil {
			t.Fatal(err)
		}
		return tr
	}
	b.do(func() {
		checked, held, roots := open(stranger, 1), open(stranger, 2), open(0, 3)
		for _, c := range []struct {
			name string
			s    *transaction
			want time.Duration
		}{
			{"whose answer PAM checks", checked, time.Second + killAfter + maxDelay},
			{"whose answer waits for its turn", held, time.Second + killAfter},
			{"of root's", roots, time.Second + killAfter},
		} {
			if got := c.s.patience(); got != c.want {
				t.Errorf("the worker of a session %s may take %v to close, not %v", c.name, got, c.want)
			}
		}
		checked.pass()
		if got := checked.patience(); got != time.Second+killAfter {
			t.Errorf("after the check it may take %v", got)
		}
	})
}
