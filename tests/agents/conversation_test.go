// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"context"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

// converse opens a conversation of somebody who hears nothing.
func (b *stage) converse(o api.ConversationOptions) *api.Conversation {
	b.t.Helper()
	v, err := b.Client(b.t).OpenConversation(context.Background(), "one", "anna", o)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *stage) askIn(v *api.Conversation, message string) uint64 {
	b.t.Helper()
	id, response, err := v.Ask(context.Background(), api.Question{Style: api.StyleSecret, Message: message})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = response.Close() })
	return id
}

// What a program that runs PAM itself tells is on the splash until it asks, or is gone.
func TestPlymouthShowsWhatAConversationTells(t *testing.T) {
	b, screen := splash(t, asks(t, "ask=secret,Password: "))
	v := b.converse(api.ConversationOptions{})
	tell := func(text string) {
		t.Helper()
		if err := v.Tell(context.Background(), api.StyleInfo, text); err != nil {
			t.Fatal(err)
		}
		screen.see("displaying message anna (one): " + text + "\r\n")
	}
	tell("Touch your token")
	b.askIn(v, "PIN: ")
	screen.see("hiding message anna (one): Touch your token\r\n")
	tell("Once more")
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	screen.see("hiding message anna (one): Once more\r\n")
}

// Each question of a conversation has a file of its own, for as long as it waits and is
// wanted there.
func TestQuestionsOfAConversationHaveAFileEach(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: "))
	v := b.converse(api.ConversationOptions{Reason: "a file transfer"})
	first, second := b.askIn(v, "Password: "), b.askIn(v, "One-time code: ")
	lines := map[string]bool{}
	for _, r := range b.requests(2) {
		lines[r.Message] = true
	}
	for _, question := range []string{"Password:", "One-time code:"} {
		if !lines[line("a file transfer", "", question)] {
			t.Errorf("there is no request for %q: %v", question, lines)
		}
	}
	b.bus.answer(api.Prompt{ID: first}, "correct horse")
	if r := b.request(); r.Message != line("a file transfer", "", "One-time code:") {
		t.Errorf("the one that is left is %q", r.Message)
	}
	b.bus.cancel(api.Prompt{ID: second})
	b.requests(0)
	// With an agent on the bus there is none, if it is for want of one only.
	b.askIn(b.converse(api.ConversationOptions{AskPassword: api.AskPasswordFallback}), "Password: ")
	b.askIn(b.converse(api.ConversationOptions{AskPassword: api.AskPasswordNo}), "Password: ")
	b.wantNothingOfOurs()
}
