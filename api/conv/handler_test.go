// SPDX-License-Identifier: Apache-2.0

package conv_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/conv"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// stage is a broker, and a directory of stacks for PAM in the test itself.
type stage struct {
	*system.System
	t      *testing.T
	client *api.Client
	stacks string
}

func start(t *testing.T) *stage {
	t.Helper()
	s := &stage{System: system.Start(t, system.Options{}), t: t, stacks: t.TempDir()}
	s.client = s.Client(t)
	return s
}

// stack writes a stack of pam_probe under the name of ftp.
func (s *stage) stack(arguments ...string) {
	s.t.Helper()
	text := system.Every(modules.Probe(s.t), arguments...)
	if err := os.WriteFile(filepath.Join(s.stacks, "ftp"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// authenticate runs pam_authenticate in the test.
func (s *stage) authenticate(h *conv.Handler) error {
	s.t.Helper()
	transaction, err := pam.StartConfDir("ftp", "anna", h, s.stacks)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = transaction.End() }()
	return transaction.Authenticate(0)
}

// agent answers every question by a function, until the test ends.
func (s *stage) agent(answer func(c *api.Client, p api.Prompt)) {
	s.t.Helper()
	c := s.Client(s.t)
	w, err := c.Watch(s.t.Context(), api.WatchOptions{Agent: true})
	if err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range w.Events() {
			if p, ok := event.(api.Prompt); ok {
				answer(c, p)
			}
		}
	}()
	s.t.Cleanup(func() {
		w.Close()
		<-ended
	})
}

// answers are given by the message.
func answers(t *testing.T, by map[string]string) func(*api.Client, api.Prompt) {
	return func(c *api.Client, p api.Prompt) {
		text, known := by[p.Message]
		if p.Style == api.StyleBinary {
			text, known = by[base64.StdEncoding.EncodeToString(p.Binary)]
		}
		if !known {
			t.Errorf("an unexpected question: %+v", p)
			return
		}
		s, err := secret.New(len(text))
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Wipe()
		copy(s.Bytes(), text)
		// Not until the end of the test: PAM goes on before this has its reply.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Answer(ctx, p.ID, s); err != nil {
			t.Errorf("answer %q: %v", p.Message, err)
		}
	}
}

func TestPAMInTheProgramItself(t *testing.T) {
	s := start(t)
	heard := make(chan api.Prompt, 8)
	give := answers(t, map[string]string{"Password: ": "correct horse", "Name: ": "anna", "Sure?": "yes"})
	s.agent(func(c *api.Client, p api.Prompt) {
		heard <- p
		give(c, p)
	})
	s.stack("auth:info=welcome", "[auth:ask=secret,Password: ]", "[auth:expect=correct horse]",
		"[auth:ask=visible,Name: ]", "auth:expect=anna", "auth:ask=choice,Sure?", "auth:expect=yes")
	h := conv.New(s.client, "ftp", "anna", conv.Options{Reason: "a test", Timeout: time.Minute})
	defer func() { _ = h.Close() }()
	h.SetPhase("authenticate", 2)
	if err := s.authenticate(h); err != nil {
		t.Fatalf("%v: %v", err, h.Err())
	}
	first := <-heard
	if first.Attempt != 2 || first.Phase != "authenticate" || first.Reason != "a test" || first.Expires == 0 ||
		len(first.Messages) != 1 || first.Messages[0].Text != "welcome" {
		t.Errorf("the first question is %+v", first)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.authenticate(h); err == nil || !errors.Is(h.Err(), context.Canceled) {
		t.Errorf("a closed handler: %v, %v", err, h.Err())
	}
}

func TestAWrongAnswerAndNone(t *testing.T) {
	s := start(t)
	s.stack("[auth:ask=secret,Password: ]", "[auth:expect=correct horse]")
	h := conv.New(s.client, "ftp", "anna", conv.Options{AskPassword: api.AskPasswordNo})
	defer func() { _ = h.Close() }()
	answer := make(chan func(*api.Client, api.Prompt), 1)
	s.agent(func(c *api.Client, p api.Prompt) { (<-answer)(c, p) })

	answer <- answers(t, map[string]string{"Password: ": "wrong"})
	if err := s.authenticate(h); err == nil || h.Err() != nil {
		t.Errorf("a wrong answer: %v, %v", err, h.Err())
	}
	answer <- func(c *api.Client, p api.Prompt) { _ = c.Cancel(t.Context(), p.ID) }
	if err := s.authenticate(h); err == nil || !errors.Is(h.Err(), api.Cancelled) {
		t.Errorf("a question that was cancelled: %v, %v", err, h.Err())
	}
	hasty := conv.New(s.client, "ftp", "anna", conv.Options{Timeout: time.Millisecond})
	defer func() { _ = hasty.Close() }()
	answer <- func(*api.Client, api.Prompt) {}
	if err := s.authenticate(hasty); err == nil || !errors.Is(hasty.Err(), api.TimedOut) {
		t.Errorf("a question that expired: %v, %v", err, hasty.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ending := conv.New(s.client, "ftp", "anna", conv.Options{Context: ctx})
	defer func() { _ = ending.Close() }()
	answer <- func(*api.Client, api.Prompt) { cancel() }
	if err := s.authenticate(ending); err == nil || !errors.Is(ending.Err(), context.Canceled) {
		t.Errorf("a context that ended: %v, %v", err, ending.Err())
	}
}

// What libpam was given is wiped when the handler is told to.
func TestAnAnswerIsWiped(t *testing.T) {
	s := start(t)
	s.agent(answers(t, map[string]string{"Password: ": "correct horse"}))
	h := conv.New(s.client, "ftp", "anna", conv.Options{})
	defer func() { _ = h.Close() }()
	ask := func() {
		t.Helper()
		if text, err := h.RespondPAM(pam.PromptEchoOff, "Password: "); err != nil || strings.Clone(text) != "correct horse" {
			t.Fatalf("got %d bytes, %v", len(text), err)
		}
	}
	ask()
	before := conv.Lent(h)
	ask()
	if before.Len() != 0 {
		t.Error("an answer is still there when the module asks again")
	}
	before = conv.Lent(h)
	h.Wipe()
	if before.Len() != 0 {
		t.Error("an answer is still there after Wipe")
	}
}

func TestBinaryPackets(t *testing.T) {
	s := start(t)
	packet := []byte{0, 0, 0, 7, 1, 'h', 'i'}
	asked := base64.StdEncoding.EncodeToString(packet)
	for _, test := range []struct {
		name, answer string
		taken        bool
	}{
		{"a packet", base64.StdEncoding.EncodeToString([]byte{0, 0, 0, 6, 2, 'x'}), true},
		{"one that says that it is longer", base64.StdEncoding.EncodeToString([]byte{0, 0, 0, 9, 2, 'x'}), false},
		{"no base64", "x", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			stage := *s
			stage.t = t
			stage.agent(answers(t, map[string]string{asked: test.answer}))
			h := conv.New(s.client, "ftp", "anna", conv.Options{})
			defer func() { _ = h.Close() }()
			got, err := h.RespondPAMBinary(conv.Pointer(packet))
			if (err == nil) != test.taken || test.taken && string(got) != "\x00\x00\x00\x06\x02x" {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	if _, err := conv.New(s.client, "ftp", "anna", conv.Options{}).RespondPAMBinary(conv.Pointer([]byte{0, 0, 0, 1})); err == nil {
		t.Error("a packet that is none was asked")
	}
	if _, err := conv.New(s.client, "ftp", "anna", conv.Options{}).RespondPAM(99, "?"); err == nil {
		t.Error("a style that is none was asked")
	}
}

// The question waits when the broker is killed, and is put again to the next one.
func TestTheBrokerIsKilledWhileAQuestionWaits(t *testing.T) {
	bus := system.StartOnBus(t, system.Options{})
	s := &stage{System: bus.System, t: t, client: bus.Client(t), stacks: t.TempDir()}
	s.stack("[auth:ask=secret,Password: ]", "[auth:expect=correct horse]")
	h := conv.New(s.client, "ftp", "anna", conv.Options{})
	defer func() { _ = h.Close() }()
	waits := make(chan struct{}, 1)
	give := answers(t, map[string]string{"Password: ": "correct horse"})
	times := 0
	s.agent(func(c *api.Client, p api.Prompt) {
		if times++; times == 1 {
			waits <- struct{}{}
			return
		}
		give(c, p)
	})
	done := make(chan error, 1)
	go func() { done <- s.authenticate(h) }()
	<-waits
	bus.Kill(t)
	bus.Restart(t)
	if err := <-done; err != nil {
		t.Errorf("%v: %v", err, h.Err())
	}
}
