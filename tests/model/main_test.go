// SPDX-License-Identifier: Apache-2.0

// Package model tests the state machines of docs/state-machine.md: it does what
// callers, agents, openers and bad luck do, in random order and at the same time, to
// the real broker with real workers, and compares all that it hears with a model. It
// holds nothing but tests.
//
//	main_test.go          what is run, and how often
//	model_test.go         the model: what a session and its questions may be
//	world_test.go         the broker, and how it is compared with the model
//	heard_test.go         signals, and what they may never say
//	answers_test.go       answers, and which of them modules really got
//	waiters_test.go       calls of Wait and NextPrompt, each of which must return
//	sessions_test.go      what is done: sessions
//	conversations_test.go ... conversations
//	races_test.go         ... two things at once
//	restart_test.go       ... and the broker is killed
//
// A failure comes with its seed and with the shortest list of steps that was found.
// RAPID_CHECKS, or the flag -rapid.checks, is how many times it begins anew:
// RAPID_CHECKS=500 go test -timeout 1h ./tests/model
package model

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// usual is how many times it begins anew when nobody says how many.
const usual = "20"

func TestTheBrokerDoesWhatTheModelAllows(t *testing.T) {
	given := os.Getenv("RAPID_CHECKS") != ""
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", usual); err != nil {
			t.Fatal(err)
		}
	}
	probe := modules.Probe(t)
	notes := t.TempDir()
	note := func(step int) string { return ":note=" + filepath.Join(notes, variables[step]) }
	b := &bench{t: t, notes: notes, texts: make(map[string]*text), numbers: make(map[uint64]string), opened: make(map[uint64]bool), left: make(map[uint64]bool)}
	b.OnBus = system.StartOnBus(t, system.Options{Stacks: map[string]string{service: "" +
		"auth required " + probe + " [auth:ask=visible," + questions[token] + "] auth:export=" + variables[token] + " auth" + note(token) +
		" [auth:ask=secret," + questions[password] + "] auth:expect=" + right + "\n" +
		"account required pam_permit.so\npassword required pam_permit.so\n" +
		"session required " + probe + " [open:ask=visible," + questions[last] + "] open:export=" + variables[last] + " open" + note(last) + "\n",
		other: "auth required " + probe + " [auth:ask=visible," + questions[side] + "] auth:export=" + variables[side] + " auth" + note(side) + "\n" +
			"account required pam_permit.so\nsession required pam_permit.so\n",
	}})
	rapid.Check(t, func(rt *rapid.T) {
		w := b.world(rt)
		for range rapid.IntRange(0, 4).Draw(rt, "sessions") { // many a step needs one
			w.open(rt)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"":                     w.check,
			"open":                 w.open,
			"open, too late":       w.openLate,
			"answer":               w.answer,
			"answer once more":     w.answerAgain,
			"answer what is none":  w.answerBadly,
			"answer what is over":  w.answerLate,
			"cancel":               w.cancel,
			"close":                w.close,
			"kill the worker":      w.kill,
			"leave":                w.leave,
			"converse":             w.converse,
			"ask":                  w.ask,
			"ask, and once more":   w.ask,
			"ask, too late":        w.askLate,
			"close the pipe":       w.drop,
			"wait":                 w.wait,
			"two answers":          w.twoAnswers,
			"alternatives at once": w.twoAlternatives,
			"answer and cancel":    w.answerAndCancel,
			"answer and close":     w.answerAndClose,
			"answer and kill":      w.answerAndKill,
			"answer and leave":     w.answerAndLeave,
			"answer and drop":      w.answerAndDrop,
			"answer and restart":   w.answerAndRestart,
			"kill and restart":     w.killAndRestart,
			"restart":              w.restart,
		})
		w.finish()
	})
	t.Attr("saw", fmt.Sprintf("%d steps of the model, with %d answers and %d brokers killed, and all came to what it says", b.steps, len(b.texts), b.kills))
}
