// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// Numbers come from the clock since boot. Another broker has another one here, in a time
// namespace of its own, which no machine has but one that was restored elsewhere.
func TestAnotherClockSinceBoot(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name    string
		seconds int
		kept    bool
	}{
		{"a day ahead", 86400, true},
		// Whoever believed such a number would have to wait until the clock is there.
		{"an hour behind", -3600, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t)
			s := b.open(b.Client(t), "ask", api.Options{Linger: true})
			p := b.promptOf(s)
			journal := b.journal()
			b.Kill(t)
			b.Through("unshare", "--time", fmt.Sprintf("--boottime=%d", c.seconds))
			b.Restart(t)
			later := b.open(b.here, "permit", api.Options{})
			if c.kept {
				b.wait(later, api.StateOpen)
				if later.ID() <= p.ID {
					t.Errorf("number %d comes after %d", later.ID(), p.ID)
				}
				if again := b.promptOf(s); again.ID != p.ID { // when its worker has dialled
					t.Errorf("the prompt was %d, and is %d", p.ID, again.ID)
				}
				if err := b.give(b.here, p.ID); err != nil {
					t.Errorf("the prompt of before: %v", err)
				}
				b.wait(s, api.StateOpen)
				b.close(s)
			} else {
				journal.says("a worker came with a number that no broker gave it, and is closed")
				if _, err := b.here.Session(s.ID()).Properties(within(t)); !errors.Is(err, api.NoSuchSession) {
					t.Errorf("the session of before: %v", err)
				}
			}
			b.close(later)
			b.bystander()()
			b.Signal(t, unix.SIGTERM)
			b.EndedWith(t)
			saw(t, "the clock since boot is %s at the next broker: session %d and prompt %d of before, then session %d; kept: %v", c.name, s.ID(), p.ID, later.ID(), c.kept)
		})
	}
}
