// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

func converse(t *testing.T, c *api.Client, o api.ConversationOptions) *api.Conversation {
	t.Helper()
	v, err := c.OpenConversation(within(t), "ftp", "anna", o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func askIn(t *testing.T, v *api.Conversation, q api.Question) (uint64, *os.File) {
	t.Helper()
	id, response, err := v.Ask(within(t), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Close() })
	return id, response
}

func hold(t *testing.T, text string) *secret.Secret {
	t.Helper()
	s, err := secret.New(len(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wipe)
	copy(s.Bytes(), text)
	return s
}

func wantResponse(t *testing.T, response *os.File, want string) {
	t.Helper()
	got, err := api.ReadResponse(within(t), response)
	if err != nil {
		t.Fatalf("the response: %v", err)
	}
	defer got.Wipe()
	if string(got.Bytes()) != want {
		t.Errorf("the response has %d bytes, not the %d of the answer", got.Len(), len(want))
	}
}

var secretQuestion = api.Question{Style: api.StyleSecret, Message: "Password: "}

func TestAConversation(t *testing.T) {
	c := connect(t)
	v := converse(t, c, api.ConversationOptions{Agent: true, Reason: "a test"})
	w := watch(t, c, api.WatchOptions{})
	if err := v.Tell(within(t), api.StyleError, "wrong"); err != nil {
		t.Fatal(err)
	}
	id, response := askIn(t, v, api.Question{Style: api.StyleSecret, Message: "Password: ", Phase: "account", Attempt: 3})
	for event := range w.Events() {
		p, ok := event.(api.Prompt)
		if !ok || p.ID != id {
			continue
		}
		if p.Session != v.ID() || p.Message != "Password: " || p.Phase != "account" || p.Attempt != 3 || p.Reason != "a test" ||
			p.Service != "ftp" || p.User != "anna" || len(p.Messages) != 1 || p.Messages[0] != (api.Text{Style: api.StyleError, Text: "wrong"}) {
			t.Errorf("the prompt is %+v", p)
		}
		break
	}
	if err := c.Answer(within(t), id, hold(t, "correct horse")); err != nil {
		t.Fatal(err)
	}
	wantResponse(t, response, "correct horse")
	if p, err := v.Session().Properties(within(t)); err != nil || !p.Conversation || p.State != api.StateOpen || p.Leader != 0 || p.OpenedAt.IsZero() {
		t.Errorf("the session is %+v, %v", p, err)
	}
	if err := v.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	_, _, err := v.Ask(within(t), secretQuestion)
	wantCode(t, err, api.Cancelled)
	if err := v.Close(within(t)); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestAnAnswerThatDoesNotCome(t *testing.T) {
	c := connect(t)
	v := converse(t, c, api.ConversationOptions{})
	t.Run("since it was cancelled", func(t *testing.T) {
		id, response := askIn(t, v, secretQuestion)
		if err := c.Cancel(within(t), id); err != nil {
			t.Fatal(err)
		}
		_, err := api.ReadResponse(within(t), response)
		wantCode(t, err, api.Cancelled)
	})
	t.Run("since its time was over", func(t *testing.T) {
		_, response := askIn(t, v, api.Question{Style: api.StyleVisible, Message: "Name: ", Timeout: 1})
		_, err := api.ReadResponse(within(t), response)
		wantCode(t, err, api.TimedOut)
	})
	t.Run("since the reader's time was over", func(t *testing.T) {
		id, response := askIn(t, v, secretQuestion)
		ctx, cancel := context.WithCancel(within(t))
		cancel()
		if _, err := api.ReadResponse(ctx, response); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		_ = response.Close()
		for prompts := 1; prompts > 0; {
			list, err := c.Prompts(within(t))
			if err != nil {
				t.Fatal(err)
			}
			prompts = 0
			for _, p := range list {
				if p.ID == id {
					prompts++
				}
			}
		}
		wantCode(t, c.Answer(within(t), id, hold(t, "late")), api.NoSuchPrompt)
	})
	t.Run("since it is none that a module takes", func(t *testing.T) {
		id, response := askIn(t, v, secretQuestion)
		if err := c.Answer(within(t), id, hold(t, "a\x00b")); err != nil {
			t.Fatal(err)
		}
		_, err := api.ReadResponse(within(t), response)
		wantCode(t, err, api.InvalidArgument)
	})
	t.Run("since the conversation was closed", func(t *testing.T) {
		_, response := askIn(t, v, secretQuestion)
		if err := v.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		_, err := api.ReadResponse(within(t), response)
		wantCode(t, err, api.Cancelled)
	})
}

func TestWhatNoResponseIs(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       error
	}{
		{"nothing, as of a broker that has ended", "", api.ErrNoBroker},
		{"a word of a later version", "-tired", api.Cancelled},
		{"a long word", "-" + strings.Repeat("x", 10000), api.Cancelled},
		{"no word", "-", api.Cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			go func() {
				_, _ = io.WriteString(w, test.text)
				_ = w.Close()
			}()
			if _, err := api.ReadResponse(within(t), r); !errors.Is(err, test.want) || len(err.Error()) > 200 {
				t.Errorf("got %v, not %v", err, test.want)
			}
		})
	}
}

func TestWhatAConversationIsNotAsked(t *testing.T) {
	c := connect(t)
	for name, o := range map[string]api.ConversationOptions{
		"a negative timeout": {Timeout: -1}, "a negative process": {PID: -1}, "a NUL": {Reason: "a\x00b"}, "no UTF-8": {AskPassword: "\xff"},
	} {
		_, err := c.OpenConversation(within(t), "ftp", "anna", o)
		t.Run(name, func(t *testing.T) { wantCode(t, err, api.InvalidArgument) })
	}
	v := converse(t, c, api.ConversationOptions{})
	for name, q := range map[string]api.Question{
		"no style": {}, "a negative timeout": {Style: api.StyleSecret, Timeout: -1}, "a NUL": {Style: api.StyleSecret, Message: "\x00"},
		"a choice with a NUL": {Style: api.StyleChoice, Choices: []string{"\x00"}}, "an unknown phase": {Style: api.StyleSecret, Phase: "lunch"},
		"half a packet": {Style: api.StyleBinary, Binary: []byte{0, 0, 0, 9, 1}},
	} {
		_, _, err := v.Ask(within(t), q)
		t.Run(name, func(t *testing.T) { wantCode(t, err, api.InvalidArgument) })
	}
	wantCode(t, v.Tell(within(t), api.StyleSecret, "psst"), api.InvalidArgument)
}
