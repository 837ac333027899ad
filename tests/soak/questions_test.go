// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

// each does a thing so many times, several at once.
func each(many, atOnce int, do func(i int) error) error {
	var wait sync.WaitGroup
	wrong := make([]error, atOnce)
	for first := range atOnce {
		wait.Go(func() {
			for i := first; i < many && wrong[first] == nil; i += atOnce {
				if err := do(i); err != nil {
					wrong[first] = fmt.Errorf("%d: %w", i, err)
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(wrong...)
}

// remembered is more than how many ended prompts the broker remembers.
const remembered = 4200

// remember has the broker make what it keeps: the pipe in which answers come together,
// and with so many prompts the memory of those that ended last.
func (b *bench) remember(t testing.TB, prompts int) {
	t.Helper()
	ctx := within(t)
	c := b.Client(t)
	defer func() { _ = c.Close() }()
	v, err := c.OpenConversation(ctx, "word", user(500), api.ConversationOptions{AskPassword: api.AskPasswordNo})
	if err == nil {
		err = one(ctx, v, c, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	files := make([]*os.File, prompts)
	err = each(prompts, 64, func(i int) (err error) {
		_, files[i], err = v.Ask(ctx, api.Question{Style: api.StyleVisible, Message: "Remember? "})
		return err
	})
	if err := errors.Join(err, v.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		_ = f.Close()
	}
}

// one asks a question, answers it and reads the answer.
func one(ctx context.Context, v *api.Conversation, answerer *api.Client, i int) error {
	id, response, err := v.Ask(ctx, api.Question{Style: api.StyleVisible, Message: fmt.Sprint("Question ", i)})
	if err != nil {
		return err
	}
	defer func() { _ = response.Close() }()
	if err := answer(ctx, answerer, id, fmt.Sprint("answer ", i)); err != nil {
		return err
	}
	return wantResponse(ctx, response, fmt.Sprint("answer ", i))
}

// One conversation asks ten thousand questions, of which several hundred wait at any
// time; then as many at once. Each answer comes out of the pipe of its own question.
func TestOneConversationAsksThousandsOfQuestions(t *testing.T) {
	many := 10000
	if _, quick := length(t); quick {
		many = 1500
	}
	b := start(t)
	b.remember(t, 1)
	idle := b.idle(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	asker, answerer := b.Client(t), b.Client(t)
	v, err := asker.OpenConversation(ctx, "ftp", "anna", api.ConversationOptions{AskPassword: api.AskPasswordNo})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := each(many, 400, func(i int) error { return one(ctx, v, answerer, i) }); err != nil {
		t.Fatal(err)
	}
	inTurn := time.Since(began)

	began = time.Now()
	files, ids := make([]*os.File, many), make([]uint64, many)
	if err := each(many, 64, func(i int) (err error) {
		ids[i], files[i], err = v.Ask(ctx, api.Question{Style: api.StyleVisible, Message: fmt.Sprint("Question ", i)})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	asked := time.Since(began)
	peak := b.count(t)
	b.weigh(t, peak)
	if list, err := answerer.Prompts(ctx); err != nil || len(list) != many {
		t.Errorf("%d prompts are listed of %d: %v", len(list), many, err)
	}
	if err := each(many, 64, func(i int) error {
		defer func() { _ = files[i].Close() }()
		if err := answer(ctx, answerer, ids[i], fmt.Sprint("answer ", i)); err != nil {
			return err
		}
		return wantResponse(ctx, files[i], fmt.Sprint("answer ", i))
	}); err != nil {
		t.Error(err)
	}
	if err := v.Close(ctx); err != nil {
		t.Error(err)
	}
	_, _ = asker.Close(), answerer.Close()
	last := b.settle(t, "after all were answered", idle)
	saw(t, "%d questions of one conversation, 400 at any time, were asked and answered in %v (%.0f a second); %d that waited at once were asked in %v and cost the broker %d descriptors and %d KiB of heap",
		many, inTurn.Round(10*time.Millisecond), float64(many)/inTurn.Seconds(), many, asked.Round(10*time.Millisecond),
		peak.of["broker descriptors"]-idle.of["broker descriptors"], (peak.of["broker heap"]-idle.of["broker heap"])>>10)
	table(t, column{"idle", idle}, column{fmt.Sprint(many, " waiting"), peak}, column{"closed", last})
}
