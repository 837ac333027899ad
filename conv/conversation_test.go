// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

func TestStyles(t *testing.T) {
	packet := "\x00\x00\x00\x08\x02\x00\xff!" // length 8, control 2, with a NUL in its data
	for _, test := range []struct {
		name    string
		probe   string
		replies []convtest.Reply
		said    []string // from the first thing the module says, up to the next phase
		opened  string
	}{
		{
			name:    "a secret question",
			probe:   "[auth:ask=secret,Password: ] auth:export=A",
			replies: []convtest.Reply{convtest.Answer("p w=ä")},
			said:    []string{"prompt 0 secret Password: ", "taken 0"},
			opened:  "opened [A=p w=ä]",
		},
		{
			name:    "a visible question",
			probe:   "[auth:ask=visible,Name: ] auth:export=A",
			replies: []convtest.Reply{convtest.Answer("anna")},
			said:    []string{"prompt 0 visible Name: ", "taken 0"},
			opened:  "opened [A=anna]",
		},
		{
			name:    "a choice offers what the header says, and any answer is passed on",
			probe:   "[auth:ask=choice,Sure? ] auth:export=A",
			replies: []convtest.Reply{convtest.Answer("perhaps")},
			said:    []string{"prompt 0 choice Sure?  [yes no maybe]", "taken 0"},
			opened:  "opened [A=perhaps]",
		},
		{
			name:    "a binary question, and an answer with a NUL in it",
			probe:   "auth:ask=binary,hex:00000009016162" + "6300 auth:export=A",
			replies: []convtest.Reply{convtest.Answer(base64.StdEncoding.EncodeToString([]byte(packet)))},
			said:    []string{"prompt 0 binary 000000090161626300", "taken 0"},
			opened:  "opened [A=000000080200ff21]",
		},
		{
			name:    "an empty answer",
			probe:   "[auth:ask=secret,Password: ] auth:export=A",
			replies: []convtest.Reply{convtest.Answer("")},
			said:    []string{"prompt 0 secret Password: ", "taken 0"},
			opened:  "opened [A=]",
		},
		{
			name:    "a question without a text",
			probe:   "auth:ask=secret, auth:export=A",
			replies: []convtest.Reply{convtest.Answer("x")},
			said:    []string{"prompt 0 secret ", "taken 0"},
			opened:  "opened [A=x]",
		},
		{
			name:   "texts that want no answer",
			probe:  "[auth:info=touch your token] [auth:error=that was the wrong finger]",
			said:   []string{"info touch your token", "error that was the wrong finger"},
			opened: "opened []",
		},
		{
			name:    "several messages in one call of the module",
			probe:   "[auth:batch=info,Hello|secret,One: |error,Hm|visible,Two: |secret,Three: ] auth:export=LAST",
			replies: []convtest.Reply{convtest.Answer("1"), convtest.Answer("22"), convtest.Answer("333")},
			said: []string{
				"info Hello", "prompt 0 secret One:  after info Hello", "taken 0",
				"error Hm", "prompt 1 visible Two:  after error Hm", "taken 1",
				"prompt 2 secret Three: ", "taken 2",
			},
			opened: "opened [LAST=333]",
		},
		{
			name:    "text that is not UTF-8 arrives byte for byte",
			probe:   "auth:info=hex:ff41fe auth:ask=secret,hex:e4 auth:export=A",
			replies: []convtest.Reply{convtest.Answer("\xff")},
			said:    []string{"info \xffA\xfe", "prompt 0 secret \xe4 after info \xffA\xfe", "taken 0"},
			opened:  "opened [A=\xff]",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			said := play(t, stack(t, "auth required {probe} "+test.probe), nil, test.replies...)
			account := slices.Index(said, "entering account")
			if account < 0 {
				t.Fatalf("the session did not open: %q", said)
			}
			wantSaid(t, said[3:account], test.said...)
			if !slices.Contains(said, test.opened) {
				t.Errorf("the worker said %q, and not %q", said, test.opened)
			}
		})
	}
}

func TestQuestionsInEveryPhase(t *testing.T) {
	probe := " required {probe} auth:ask=secret,auth setcred:ask=secret,setcred account:ask=secret,account" +
		" account:result=PAM_NEW_AUTHTOK_REQD chauthtok:ask=secret,chauthtok open:ask=secret,open" +
		" close:converr=PAM_SUCCESS close:ask=secret,close close:info=closing delcred:converr=PAM_SUCCESS delcred:ask=secret,delcred"
	a := convtest.Answer("x")
	said := play(t, stack(t, "auth"+probe, "account"+probe, "password"+probe, "session"+probe), nil, a, a, a, a, a)
	wantSaid(t, said,
		"entering start", "resolved 0",
		"entering authenticate 1", "prompt 0 secret auth", "taken 0",
		"entering account", "prompt 1 secret account", "taken 1",
		"entering change-token", "prompt 2 secret chauthtok", "taken 2",
		"entering credentials", "prompt 3 secret setcred", "taken 3",
		"entering session", "prompt 4 secret open", "taken 4",
		"opened []",
		// Nobody is asked while PAM unwinds, but told.
		"entering close-session", "info closing", "entering delete-credentials", "entering end", "closed 0")
}

func TestPromptsSayWhereTheyComeFrom(t *testing.T) {
	_, _, peer := run(t, stack(t, "account required {probe} account:ask=secret,x", "auth required {probe} auth:ask=secret,x"))
	before := uint64(now(unix.CLOCK_MONOTONIC).Microseconds())
	peer.Start(convtest.Start("test", "root", options(func(o *worker.Options) { o.TimeoutUsec = 3600e6 })))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1")
	first := peer.Next().GetPrompt()
	if first.GetPhase() != worker.Phase_PHASE_AUTHENTICATE || first.GetAttempt() != 1 {
		t.Errorf("the prompt says phase %v, attempt %d", first.GetPhase(), first.GetAttempt())
	}
	if left := first.GetExpiresUsec() - before - 3600e6; left > 60e6 {
		t.Errorf("the prompt expires %d µs off", left)
	}
	peer.Answer(0, "x")
	peer.Expect("taken 0", "entering account")
	if second := peer.Next().GetPrompt(); second.GetPhase() != worker.Phase_PHASE_ACCOUNT || second.GetAttempt() != 0 {
		t.Errorf("the second prompt says phase %v, attempt %d", second.GetPhase(), second.GetAttempt())
	}
}

func TestWithoutATimeoutAPromptNeverExpires(t *testing.T) {
	_, _, peer := run(t, stack(t, "auth required {probe} auth:ask=secret,x"))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1")
	if p := peer.Next().GetPrompt(); p.GetExpiresUsec() != 0 {
		t.Errorf("the prompt expires at %d", p.GetExpiresUsec())
	}
}

func TestAQuestionThatNobodyAnswers(t *testing.T) {
	const ask = "auth required {probe} [auth:ask=secret,Password: ]"
	timeout := options(func(o *worker.Options) { o.TimeoutUsec = 1000 })
	for _, test := range []struct {
		name   string
		stack  []string
		change func(*worker.Start)
		reply  convtest.Reply
		said   []string
	}{
		{
			name:  "is cancelled",
			stack: []string{ask},
			reply: convtest.Cancel,
			said: []string{
				"prompt 0 secret Password: ", "withdrawn 0 cancelled", "entering end",
				"failed Cancelled 19 a question of pam_authenticate was cancelled (PAM_CONV_ERR)",
			},
		},
		{
			name:   "expires",
			stack:  []string{ask},
			change: timeout,
			reply:  convtest.Nothing,
			said: []string{
				"prompt 0 secret Password: ", "withdrawn 0 expired", "entering end",
				"failed TimedOut 19 nobody answered a question of pam_authenticate in time (PAM_CONV_ERR)",
			},
		},
		{
			name:  "is one of a session that is closed",
			stack: []string{ask},
			reply: convtest.Close,
			said:  []string{"prompt 0 secret Password: ", "withdrawn 0 session-closed", "entering end", "closed 0 closed before it opened"},
		},
		{
			name:   "expires, and the module says that the answer was wrong",
			stack:  []string{"auth required {probe} auth:converr=PAM_AUTH_ERR [auth:ask=secret,Password: ]"},
			change: timeout,
			reply:  convtest.Nothing,
			said: []string{
				"prompt 0 secret Password: ", "withdrawn 0 expired", "entering end",
				"failed TimedOut 7 nobody answered a question of pam_authenticate in time (PAM_AUTH_ERR)",
			},
		},
		{
			name: "is one of an account whose password has to be changed",
			stack: []string{
				"auth required {probe} [auth:info=Hello]",
				"account required {probe} account:converr=PAM_SUCCESS [account:ask=secret,Password: ] account:result=PAM_NEW_AUTHTOK_REQD",
			},
			reply: convtest.Cancel,
			said: []string{
				"info Hello", "entering account", "prompt 0 secret Password:  after info Hello", "withdrawn 0 cancelled", "entering end",
				"failed Cancelled 12 a question of pam_acct_mgmt was cancelled (PAM_NEW_AUTHTOK_REQD)",
			},
		},
		{
			name:  "is cancelled, and the stack lets the user in all the same",
			stack: []string{"auth optional {probe} [auth:ask=secret,Password: ]", "auth required {permit}"},
			reply: convtest.Cancel,
			said: append([]string{"prompt 0 secret Password: ", "withdrawn 0 cancelled"},
				everyPhase[3:]...),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			said := play(t, stack(t, test.stack...), test.change, test.reply)
			wantSaid(t, said[3:], test.said...)
		})
	}
}

func TestAnswersThatAreNotTaken(t *testing.T) {
	for _, test := range []struct {
		name, style, answer, refusal string
	}{
		{"a NUL in an answer", "secret,x", "a\x00b", "InvalidArgument"},
		{"an answer to a binary question that is no base64", "binary,hex:0000000501", "not base64!", "InvalidArgument"},
		{"an empty answer to a binary question", "binary,hex:0000000501", "", "InvalidArgument"},
		{"a binary answer that says to be longer than it is", "binary,hex:0000000501", base64.StdEncoding.EncodeToString([]byte{0, 0, 1, 0, 1}), "InvalidArgument"},
		{"a binary answer that is shorter than its head", "binary,hex:0000000501", base64.StdEncoding.EncodeToString([]byte{0, 0, 0, 4}), "InvalidArgument"},
	} {
		t.Run(test.name+" leaves the prompt where it was", func(t *testing.T) {
			_, _, peer := run(t, stack(t, "auth required {probe} auth:ask="+test.style))
			peer.Start(convtest.Start("test", "root"))
			peer.Expect("entering start", "resolved 0", "entering authenticate 1")
			peer.Next()
			peer.Answer(0, test.answer)
			peer.Expect("taken 0 " + test.refusal)
			right := "right"
			if strings.HasPrefix(test.style, "binary") {
				right = "AAAABQE="
			}
			peer.Answer(0, right)
			peer.Expect("taken 0", "entering account")
		})
	}
}

func TestAnAnswerThatIsTooLong(t *testing.T) {
	_, _, peer := run(t, stack(t, "auth required {probe} auth:ask=secret,x"))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	f := memfd(t, strings.Repeat("x", 64<<10+1))
	peer.Send(convtest.AnswerPacket(0), f)
	peer.Expect("taken 0 LimitExceeded")
	peer.Answer(0, strings.Repeat("x", 64<<10))
	peer.Expect("taken 0", "entering account")
}

func TestAnAnswerThatIsNoSealedMemfd(t *testing.T) {
	_, _, peer := run(t, stack(t, "auth required {probe} auth:ask=secret,x"))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	r, w := pipe(t)
	peer.Send(convtest.AnswerPacket(0), r)
	peer.Expect("taken 0 InvalidArgument")
	peer.Send(convtest.AnswerPacket(0), w)
	peer.Expect("taken 0 InvalidArgument")
}

func TestOneOfTwoAnswersWins(t *testing.T) {
	_, _, peer := run(t, stack(t, "auth required {probe} auth:ask=secret,x auth:export=A"))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	peer.Answer(0, "first")
	peer.Answer(0, "second")
	var taken, rest []string
	for _, said := range convtest.Continue(peer) {
		if strings.HasPrefix(said, "taken") {
			taken = append(taken, said)
		} else {
			rest = append(rest, said)
		}
	}
	if !slices.Equal(taken, []string{"taken 0", "taken 0 AlreadyAnswered"}) || !slices.Contains(rest, "opened [A=first]") {
		t.Errorf("the worker said %q, %q", taken, rest)
	}
}

func TestAnswersToWhatIsGone(t *testing.T) {
	probe := "auth required {probe} auth:converr=PAM_SUCCESS auth:ask=secret,a auth:ask=secret,b auth:ask=secret,c"
	_, _, peer := run(t, stack(t, probe))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret a")
	peer.Answer(1, "too early")
	peer.Expect("taken 1 NoSuchPrompt")
	peer.Cancel(0)
	peer.Expect("withdrawn 0 cancelled", "prompt 1 secret b")
	peer.Answer(0, "too late")
	peer.Expect("taken 0 Cancelled")
	peer.Cancel(0) // is gone; nothing happens
	peer.Answer(1, "x")
	peer.Expect("taken 1", "prompt 2 secret c")
	peer.Answer(1, "x")
	peer.Expect("taken 1 AlreadyAnswered")
	peer.Answer(2, "x")
	peer.Expect("taken 2", "entering account")
}

func TestLongTextsAreCut(t *testing.T) {
	_, _, peer := run(t, stack(t, "auth required {probe} auth:info=repeat:300000 auth:ask=secret,repeat:300000"))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1")
	if n := len(peer.Next().GetText().GetText()); n != worker.MaxText {
		t.Errorf("the info has %d bytes", n)
	}
	p := peer.Next().GetPrompt()
	if len(p.GetText()) != worker.MaxText || len(p.GetMessages()) != 1 || len(p.GetMessages()[0].GetText()) != worker.MaxMessagesSize {
		t.Errorf("the prompt has %d bytes after %d messages", len(p.GetText()), len(p.GetMessages()))
	}
}

func TestABinaryPromptThatIsNone(t *testing.T) {
	for _, packet := range []string{"00000004", "00000000", "7fffffff01", "0001000101"} {
		said := play(t, stack(t, "auth required {probe} auth:ask=binary,hex:"+packet), nil)
		wantSaid(t, said[3:], "entering end", "failed PAMFailed 19 pam_authenticate: Conversation error (PAM_CONV_ERR)")
	}
}

func TestAStyleThatIsNone(t *testing.T) {
	said := play(t, stack(t, "auth required {probe} auth:ask=99,x"), nil)
	wantSaid(t, said[3:], "entering end", "failed PAMFailed 19 pam_authenticate: Conversation error (PAM_CONV_ERR)")
}

// TestAnswersAreWiped: one that libpam was lent lasts until the module asks
// again, or the call of libpam is over.
func TestAnswersAreWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(quiet())
		if err := s.begin(convtest.Start("test", "root")); err != nil {
			t.Fatal(err)
		}
		c := &conversation{own: new(belongings), session: s}
		askOnce := func(index uint32, answer string) *secret.Secret {
			go func() {
				synctest.Wait()
				f := convtest.Memfd(t, answer)
				defer func() { _ = f.Close() }()
				s.answer(index, f)
			}()
			if got, err := c.RespondPAM(pam.PromptEchoOff, "x"); got != answer || err != nil {
				t.Errorf("the answer is %q (%v)", got, err)
			}
			return c.lent
		}
		first := askOnce(0, "first")
		if first.Len() == 0 {
			t.Error("an answer is gone before libpam can copy it")
		}
		second := askOnce(1, "second")
		if first.Len() != 0 {
			t.Error("an answer is still there when the module asks again")
		}
		c.reset()
		if second.Len() != 0 {
			t.Error("an answer is still there after the call of libpam")
		}
	})
}

func TestDuration(t *testing.T) {
	for usec, want := range map[uint64]time.Duration{
		0:          0,
		1:          time.Microsecond,
		1 << 63:    100 * 365 * 24 * time.Hour,
		^uint64(0): 100 * 365 * 24 * time.Hour,
	} {
		if got := duration(usec); got != want {
			t.Errorf("%d µs are %v, not %v", usec, got, want)
		}
	}
}
