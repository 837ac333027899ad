// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// libpam makes a delay up to a half shorter or longer, at random. delay is what
// the modules of these tests ask for, in microseconds, and shortest what they
// get at least.
const (
	delay    = "400000"
	shortest = 200 * time.Millisecond
)

const refused = "failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)"

// wantDelay fails the test unless the delay is over that began after this time.
func wantDelay(t testing.TB, begun time.Time, delays time.Duration) {
	t.Helper()
	if waited := time.Since(begun); waited < delays*shortest {
		t.Errorf("the failure came after %v", waited)
	}
}

func TestFailuresAreDelayedAsModulesAsk(t *testing.T) {
	for _, test := range []struct {
		name, stack string
		attempts    uint32
		replies     []convtest.Reply
		ended       string
	}{
		{
			name: "a wrong answer", attempts: 1, ended: refused,
			stack:   "auth required {probe} auth:delay=" + delay + " auth:ask=secret,x auth:expect=right",
			replies: []convtest.Reply{convtest.Answer("wrong")},
		},
		{
			name: "each wrong answer of one session", attempts: 3, ended: refused,
			stack:   "auth required {probe} auth:delay=" + delay + " auth:ask=secret,x auth:expect=right",
			replies: []convtest.Reply{convtest.Answer("wrong"), convtest.Answer("wrong"), convtest.Answer("wrong")},
		},
		{
			name: "by the system's own module", attempts: 1, ended: refused,
			stack: "auth optional {faildelay} delay=" + delay + "\nauth required {deny}",
		},
		{
			name: "an account that must change its password and does not", attempts: 1,
			stack: "account required {probe} account:result=PAM_NEW_AUTHTOK_REQD\n" +
				"password required {probe} chauthtok:delay=" + delay + " chauthtok:ask=secret,x chauthtok:result=PAM_AUTHTOK_ERR",
			replies: []convtest.Reply{convtest.Answer("short")},
			ended:   "failed AccountUnavailable 20 pam_chauthtok: Authentication token manipulation error (PAM_AUTHTOK_ERR)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, strings.Split(test.stack, "\n")...)
			begun := time.Now()
			said := play(t, dir, options(func(o *worker.Options) { o.Attempts = test.attempts }), test.replies...)
			wantDelay(t, begun, time.Duration(test.attempts))
			if last := said[len(said)-1]; last != test.ended {
				t.Errorf("the worker ended with %q, not %q", last, test.ended)
			}
		})
	}
}

// TestSuccessIsNotDelayed would take an hour.
func TestSuccessIsNotDelayed(t *testing.T) {
	wantSaid(t, play(t, stack(t, "auth required {probe} auth:delay=3600000000"), nil), everyPhase...)
}

// delaying starts a session whose failure is delayed, and returns when the wrong
// answer has been taken.
func delaying(t *testing.T, delay string, closeTimeout time.Duration) (*convtest.Process, *convtest.Peer) {
	t.Helper()
	_, process, peer := run(t, stack(t, "auth required {probe} auth:delay="+delay+" auth:ask=secret,x auth:expect=right"))
	peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.CloseTimeoutUsec = uint64(closeTimeout.Microseconds()) }))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	peer.Answer(0, "wrong")
	peer.Expect("taken 0")
	return process, peer
}

// TestADelayIsNotCutShort by who guesses: closing and opening again would make
// the next guess as quick as PAM is.
func TestADelayIsNotCutShort(t *testing.T) {
	t.Run("by Close", func(t *testing.T) {
		begun := time.Now()
		process, peer := delaying(t, delay, time.Minute)
		peer.Close()
		wantSaid(t, convtest.Continue(peer), "entering end", "closed 0 closed before it opened")
		wantDelay(t, begun, 1)
		if end := process.Wait(); end != "exit status 0" {
			t.Errorf("the worker ended with %s", end)
		}
	})
	t.Run("by Close, when PAM may take less time than that", func(t *testing.T) {
		// Shorter than any such delay. PAM has as long again after it, on a busy
		// machine too.
		const closeTimeout = 5 * shortest
		begun := time.Now()
		process, peer := delaying(t, "3000000", closeTimeout)
		peer.Close()
		wantSaid(t, convtest.Continue(peer), "entering end", "closed 0 closed before it opened")
		wantDelay(t, begun, 7)
		if end := process.Wait(); end != "exit status 0" {
			t.Errorf("the worker ended with %s", end)
		}
	})
	t.Run("by SIGTERM", func(t *testing.T) {
		begun := time.Now()
		process, peer := delaying(t, delay, time.Minute)
		process.Signal(unix.SIGTERM)
		wantSaid(t, convtest.Continue(peer), "entering end", "closed 0 closed before it opened")
		wantDelay(t, begun, 1)
	})
	t.Run("by signals without end", func(t *testing.T) {
		begun := time.Now()
		process, peer := delaying(t, delay, time.Minute)
		pidfd, err := unix.PidfdOpen(process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(pidfd) }()
		said := make(chan []string, 1)
		go func() { said <- convtest.Continue(peer) }()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for over := false; !over; {
			select {
			case <-tick.C:
				_ = unix.PidfdSendSignal(pidfd, unix.SIGURG, nil, 0) // as the Go runtime does
			case said := <-said:
				wantSaid(t, said, "entering end", refused)
				over = true
			}
		}
		wantDelay(t, begun, 1)
		process.Wait()
	})
	t.Run("by a broker that goes away", func(t *testing.T) {
		broker, _, peer := run(t, stack(t, "auth required {probe} auth:delay="+delay+" auth:ask=secret,x auth:expect=right"))
		begun := time.Now()
		peer.Start(convtest.Start("test", "root"))
		peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
		peer.Answer(0, "wrong")
		peer.Leave()
		if said := convtest.Continue(broker.Accept()); !slices.Contains(said, refused) {
			t.Errorf("the worker said %q", said)
		}
		wantDelay(t, begun, 1)
	})
}
