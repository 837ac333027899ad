// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

// text is an answer that is given once.
type text struct {
	q       *question
	refused bool // whoever gave it was told that it was not taken
}

// text is an answer that nobody has given before, or the right one.
func (w *world) text(rt *rapid.T, q *question) string {
	if q.step == password && hasWorker(q.s) && rapid.Bool().Draw(rt, "right") {
		return right
	}
	answer := fmt.Sprintf("answer-%d", len(w.texts))
	w.texts[answer] = &text{q: q}
	return answer
}

// give answers a prompt as somebody.
func (w *world) give(c *api.Client, number uint64, answer string) error {
	s, err := secret.New(len(answer))
	if err != nil {
		return err
	}
	defer s.Wipe()
	copy(s.Bytes(), answer)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = c.Answer(ctx, number, s)
	if given := w.texts[answer]; given != nil {
		// The module of an alternative that loses in this moment may have it, and ends.
		given.refused = code(err) != "" && code(err) != api.WorkerFailed && !(given.q.s.alternatives && code(err) == api.NoSuchPrompt)
	}
	return err
}

// noted are the answers to a question that modules have got, in their order.
func (w *world) noted(step int) []string {
	all, err := os.ReadFile(filepath.Join(w.notes, variables[step]))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.rt.Fatal(err)
	}
	return strings.Fields(string(all))
}

// checkNotes looks at what modules have really got: each answer once, none to another
// question, and none of which somebody was told that it was not taken.
func (w *world) checkNotes() {
	seen := make(map[string]bool)
	for _, step := range []int{token, last, side} {
		for _, answer := range w.noted(step) {
			given := w.texts[answer]
			if answer == right { // given to what is no password, which is no matter
				continue
			}
			if given == nil || given.q.pipe != nil || given.q.step != step || given.refused || seen[answer] {
				w.rt.Fatalf("a module that asked %q has %q, which was given as %+v; it has come before: %t", questions[step], answer, given, seen[answer])
			}
			seen[answer] = true
		}
	}
}
