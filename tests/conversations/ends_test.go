// SPDX-License-Identifier: Apache-2.0

package conversations

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/tests/system"
)

const replyPassword = "/lib/systemd/systemd-reply-password"

// request waits for the only file, and reads it.
func (b *bench) request() askpassword.Request {
	b.t.Helper()
	system.AwaitFiles(b.t, b.dir, func() bool { return len(b.requests()) == 1 })
	text, err := os.ReadFile(filepath.Join(b.dir, b.requests()[0]))
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := askpassword.Parse(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) wantNoRequest() {
	b.t.Helper()
	if names := b.requests(); len(names) != 0 {
		b.t.Errorf("there still is %q", names)
	}
}

// Each way in which a question ends, what its pipe says, what agents hear, and that
// nothing is left.
func TestHowAQuestionEnds(t *testing.T) {
	b := start(t)
	c := b.Client(t)
	before := b.warm(c)
	reply := func(t *testing.T, sign, text string) {
		t.Helper()
		cmd := exec.Command(replyPassword, sign, b.request().Socket)
		cmd.Stdin = strings.NewReader(text + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, test := range []struct {
		name, outcome, pipe string
		q                   api.Question
		end                 func(t *testing.T, v *api.Conversation, id uint64, response *os.File)
	}{
		{"an answer by descriptor", api.OutcomeAnswered, "+correct horse", password, func(t *testing.T, _ *api.Conversation, id uint64, _ *os.File) {
			if err := b.answer(id, "correct horse"); err != nil {
				t.Error(err)
			}
			if err := b.answer(id, "late"); !errors.Is(err, api.AlreadyAnswered) {
				t.Errorf("the second answer: %v", err)
			}
		}},
		{"an answer as text", api.OutcomeAnswered, "+horse", password, func(t *testing.T, _ *api.Conversation, id uint64, _ *os.File) {
			if err := call(b.Conn(t), api.RootPath, api.ManagerInterface+".AnswerPrompt", id, "horse").Err; err != nil {
				t.Error(err)
			}
		}},
		{"an empty answer", api.OutcomeAnswered, "+", password, func(t *testing.T, _ *api.Conversation, id uint64, _ *os.File) {
			if err := b.answer(id, ""); err != nil {
				t.Error(err)
			}
		}},
		{"an answer of an agent of systemd", api.OutcomeAnswered, "+staple", password, func(t *testing.T, _ *api.Conversation, _ uint64, _ *os.File) {
			if r := b.request(); r.Message != `anna (ftp): Password:` || r.Echo {
				t.Errorf("the request is %+v", r)
			}
			reply(t, "1", "staple")
		}},
		{"its cancel", api.OutcomeCancelled, "-cancelled", password, func(t *testing.T, _ *api.Conversation, _ uint64, _ *os.File) {
			reply(t, "0", "")
		}},
		{"a cancel", api.OutcomeCancelled, "-cancelled", password, func(t *testing.T, _ *api.Conversation, id uint64, _ *os.File) {
			if err := b.agent.Cancel(within(t), id); err != nil {
				t.Error(err)
			}
			if err := b.answer(id, "late"); !errors.Is(err, api.Cancelled) {
				t.Errorf("an answer after that: %v", err)
			}
		}},
		{"the end of its time", api.OutcomeExpired, "-expired", api.Question{Style: api.StyleVisible, Message: "Name: ", Timeout: time.Millisecond}, nil},
		{"the end of the conversation", api.OutcomeSessionClosed, "-session-closed", password, func(t *testing.T, v *api.Conversation, _ uint64, _ *os.File) {
			if err := v.Close(within(t)); err != nil {
				t.Error(err)
			}
		}},
		{"the end of the conversation by somebody else", api.OutcomeSessionClosed, "-session-closed", password, func(t *testing.T, v *api.Conversation, _ uint64, _ *os.File) {
			if err := b.agent.Session(v.ID()).Close(within(t)); err != nil {
				t.Error(err)
			}
		}},
		{"a program that closes its pipe", api.OutcomeSessionClosed, "", password, func(_ *testing.T, _ *api.Conversation, _ uint64, response *os.File) {
			_ = response.Close()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := converse(t, c, api.ConversationOptions{})
			id, response := ask(t, v, test.q)
			if p := next[api.Prompt](b); p.ID != id || p.Session != v.ID() {
				t.Errorf("agents hear of %+v", p)
			}
			if test.end != nil {
				test.end(t, v, id, response)
			}
			b.closed(id, test.outcome)
			b.wantNoRequest()
			if test.pipe != "" {
				wantPipe(t, response, test.pipe)
			}
			if err := v.Close(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	b.wantDescriptors(before)
}

func TestTheOwnerLeavesTheBus(t *testing.T) {
	b := start(t)
	before := b.warm(b.agent)
	c, err := api.Dial(within(t), b.Address)
	if err != nil {
		t.Fatal(err)
	}
	v := converse(t, c, api.ConversationOptions{})
	id, response := ask(t, v, password)
	next[api.Prompt](b)
	_ = c.Close()
	b.closed(id, api.OutcomeSessionClosed)
	wantPipe(t, response, "-session-closed")
	if _, err := b.agent.Session(v.ID()).Properties(within(t)); !errors.Is(err, api.NoSuchSession) {
		t.Errorf("the conversation: %v", err)
	}
	b.wantNoRequest()
	b.wantDescriptors(before)
}

// The pipe ends without a word, and another broker knows nothing of the conversation:
// the library says so in a way that tells it from everything else.
func TestTheBrokerIsKilled(t *testing.T) {
	b := start(t)
	c := b.Client(t)
	v := converse(t, c, api.ConversationOptions{})
	_, response := ask(t, v, password)
	_, raw := ask(t, v, password)
	b.Kill(t)
	if _, err := api.ReadResponse(within(t), response); !errors.Is(err, api.ErrNoBroker) {
		t.Errorf("a question that waited: %v", err)
	}
	wantPipe(t, raw, "")
	if _, _, err := v.Ask(within(t), password); !errors.Is(err, api.ErrNoBroker) {
		t.Errorf("without a broker: %v", err)
	}
	b.Restart(t)
	if _, _, err := v.Ask(within(t), password); !errors.Is(err, api.ErrNoBroker) {
		t.Errorf("with another broker: %v", err)
	}
	if err := v.Close(within(t)); err != nil {
		t.Errorf("Close: %v", err)
	}
	v = converse(t, c, api.ConversationOptions{})
	id, response := ask(t, v, password)
	if err := b.answer(id, "correct horse"); err != nil {
		t.Fatal(err)
	}
	wantPipe(t, response, "+correct horse")
	// Those of the first broker are swept by the next one, which takes its name first.
	for deadline := time.Now().Add(patience); len(b.requests()) > 0 && time.Now().Before(deadline); {
	}
	b.wantNoRequest()
}

// Wait, NextPrompt and the object are those of a session that is open.
func TestAConversationIsASession(t *testing.T) {
	b := start(t)
	c := b.Client(t)
	v := converse(t, c, api.ConversationOptions{Timeout: time.Hour})
	conn := b.Conn(t)
	if err := v.Session().Wait(within(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	type prompt struct {
		id             uint64
		style, message string
		err            error
	}
	asked := func(after uint64) <-chan prompt {
		done := make(chan prompt, 1)
		go func() {
			var p prompt
			var details map[string]any
			p.err = call(conn, v.Session().Path(), api.SessionInterface+".NextPrompt", after).Store(&p.id, &p.style, &p.message, &details)
			done <- p
		}()
		return done
	}
	waiting := asked(0)
	first, _ := ask(t, v, password)
	second, _ := ask(t, v, api.Question{Style: api.StyleChoice, Message: "Sure?"})
	if p := <-waiting; p.err != nil || p.id != first || p.style != api.StyleSecret {
		t.Errorf("NextPrompt is %+v", p)
	}
	if p := <-asked(first); p.err != nil || p.id != second || p.message != "Sure?" {
		t.Errorf("the one after that is %+v", p)
	}
	waiting = asked(second)
	for i, p := range []api.Prompt{next[api.Prompt](b), next[api.Prompt](b)} {
		if p.Index != uint32(i) || p.Expires == 0 || p.Source != api.SourcePAM || p.Phase != "" || p.Attempt != 1 || i == 1 && len(p.Choices) != 3 {
			t.Errorf("question %d is %+v", i, p)
		}
	}
	list, err := c.Sessions(within(t))
	if err != nil || len(list) != 1 || list[0].Service != "ftp" || list[0].State != api.StateOpen {
		t.Errorf("the list is %+v, %v", list, err)
	}
	if err := v.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if p := <-waiting; p.err == nil || !strings.Contains(p.err.Error(), "it is closed") {
		t.Errorf("NextPrompt, which waited until the end, is %+v", p)
	}
	p, err := v.Session().Properties(within(t))
	if err != nil || p.State != api.StateClosed || len(p.Environment) != 0 || p.PAMResult != 0 || p.ResultText != "closed by uid 0" {
		t.Errorf("in the end it is %+v, %v", p, err)
	}
}

// What was told is for the next question, as much of it as there is room for.
func TestWhatIsToldIsForTheNextQuestion(t *testing.T) {
	b := start(t)
	v := converse(t, b.Client(t), api.ConversationOptions{AskPassword: api.AskPasswordNo})
	for i := range 40 {
		if err := v.Tell(within(t), []string{api.StyleInfo, api.StyleError}[i%2], strings.Repeat("x", i)); err != nil {
			t.Fatal(err)
		}
		if m := next[api.Message](b); m.Session != v.ID() || len(m.Text.Text) != i {
			t.Errorf("agents hear %+v", m)
		}
	}
	ask(t, v, password)
	ask(t, v, password)
	first, second := next[api.Prompt](b), next[api.Prompt](b)
	if len(first.Messages) != 32 || len(first.Messages[0].Text) != 8 || first.Messages[0].Style != api.StyleInfo || len(second.Messages) != 0 {
		t.Errorf("the questions have %d and %d messages, from %+v on", len(first.Messages), len(second.Messages), first.Messages[0])
	}
	b.wantNoRequest()
}
