// SPDX-License-Identifier: Apache-2.0

package conversations

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// Each answer must come out of the pipe of its own question, whatever the order.
func TestThousandsOfQuestionsAtOnce(t *testing.T) {
	t.Run("on dbus-daemon", func(t *testing.T) { thousands(t, start(t)) })
	t.Run("on dbus-broker", func(t *testing.T) {
		if _, err := exec.LookPath("dbus-broker"); err != nil {
			t.Skipf("%v: the Debian package dbus-broker has it", err)
		}
		thousands(t, startOn(t, system.StartOnDBusBroker))
	})
}

func thousands(t *testing.T, b *bench) {
	const many, atOnce = 2000, 64 // more than the library has unanswered, which is for it to bound
	c := b.Client(t)
	before := b.warm(c)
	b.heard.Close() // its queue is for fewer
	v := converse(t, c, api.ConversationOptions{AskPassword: api.AskPasswordNo})
	type question struct {
		id       uint64
		response *os.File
		answer   string
	}
	all := make([]question, many)
	each := func(f func(i int)) {
		var wait sync.WaitGroup
		for worker := range atOnce {
			wait.Go(func() {
				for i := worker; i < many; i += atOnce {
					f(i)
				}
			})
		}
		wait.Wait()
	}
	each(func(i int) {
		id, response, err := v.Ask(context.Background(), api.Question{Style: api.StyleVisible, Message: fmt.Sprint("Question ", i)})
		if err != nil {
			t.Errorf("question %d: %v", i, err)
			return
		}
		length := rand.IntN(40)
		if i%100 == 0 {
			length = rand.IntN(api.MaxResponse)
		}
		all[i] = question{id, response, fmt.Sprint(i, strings.Repeat("x", length))}
	})
	if t.Failed() {
		t.FailNow()
	}
	list, err := c.Prompts(within(t))
	if err != nil || len(list) != many {
		t.Fatalf("%d prompts wait, %v", len(list), err)
	}
	if got := b.descriptors(); got > before+many+16 {
		t.Errorf("%d questions cost %d descriptors", many, got-before)
	}
	order := rand.Perm(many)
	each(func(i int) {
		q := all[order[i]]
		if err := b.answer(q.id, q.answer); err != nil {
			t.Errorf("answer question %d: %v", order[i], err)
		}
	})
	each(func(i int) {
		answer, err := api.ReadResponse(within(t), all[i].response)
		if err != nil || string(answer.Bytes()) != all[i].answer {
			t.Errorf("question %d has another answer, %v", i, err)
		}
		answer.Wipe()
		_ = all[i].response.Close()
	})
	if err := v.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	b.wantDescriptors(before)
}

// Whole by the time that the answerer knows of it, whoever reads when.
func TestALargeAnswerWithAReaderThatComesLate(t *testing.T) {
	b := start(t)
	v := converse(t, b.Client(t), api.ConversationOptions{})
	id, response := ask(t, v, password)
	text := strings.Repeat("0123456789abcdef", api.MaxResponse/16)
	if err := b.answer(id, text); err != nil {
		t.Fatal(err)
	}
	b.closed(id, api.OutcomeAnswered)
	if err := v.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	b.Kill(t)
	wantPipe(t, response, "+"+text)
	b.Restart(t)
}

// Nobody waits for a reader that never reads, and nothing is left of what it did not.
func TestReadersThatNeverRead(t *testing.T) {
	b := start(t)
	c := b.Client(t)
	before := b.warm(c)
	v := converse(t, c, api.ConversationOptions{AskPassword: api.AskPasswordNo})
	var unread []*os.File
	for range 50 {
		id, response := ask(t, v, password)
		if err := b.answer(id, strings.Repeat("x", api.MaxResponse)); err != nil {
			t.Fatal(err)
		}
		b.closed(id, api.OutcomeAnswered)
		unread = append(unread, response)
	}
	b.wantDescriptors(before) // although nobody has read
	for _, f := range unread {
		_ = f.Close()
	}
}
