// SPDX-License-Identifier: Apache-2.0

package convtest

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pamprompt/pamprompt/api/worker"
)

// Reply is what a broker does about a prompt.
type Reply func(*Peer, *worker.Prompt)

// Answer answers it.
func Answer(answer string) Reply {
	return func(p *Peer, prompt *worker.Prompt) { p.t.Helper(); p.Answer(prompt.GetIndex(), answer) }
}

// Cancel cancels it.
func Cancel(p *Peer, prompt *worker.Prompt) { p.t.Helper(); p.Cancel(prompt.GetIndex()) }

// Close closes the session.
func Close(p *Peer, _ *worker.Prompt) { p.t.Helper(); p.Close() }

// Nothing does nothing.
func Nothing(*Peer, *worker.Prompt) {}

// Play starts a session, does to its prompts what the replies say, closes it
// when it is open, and returns what the worker said, until it hung up.
func Play(p *Peer, start *worker.Start, replies ...Reply) []string {
	p.t.Helper()
	p.Start(start)
	return Continue(p, replies...)
}

// Continue is Play for a session that was started before.
func Continue(p *Peer, replies ...Reply) []string {
	p.t.Helper()
	var said []string
	for {
		m, err := p.Receive()
		if errors.Is(err, io.EOF) {
			return said
		}
		if err != nil {
			p.t.Fatalf("wait for a packet of the worker: %v\nit said %q", err, said)
		}
		said = append(said, Describe(m))
		switch {
		case m.GetOpened() != nil:
			p.Close()
		case m.GetPrompt() != nil && len(replies) == 0:
			p.t.Fatalf("the worker asks more than expected: %q", said)
		case m.GetPrompt() != nil:
			replies[0](p, m.GetPrompt())
			replies = replies[1:]
		}
	}
}

// Describe puts a packet into a line: "entering authenticate 1", "prompt 0
// secret Password: ", "failed AuthenticationFailed 7 pam_authenticate: ...".
func Describe(m *worker.ToBroker) string {
	switch m := m.GetMessage().(type) {
	case *worker.ToBroker_Hello:
		return strings.TrimSpace("hello " + DescribeSession(m.Hello.GetSession()))
	case *worker.ToBroker_Entering:
		return number("entering "+phase(m.Entering.GetPhase()), m.Entering.GetAttempt())
	case *worker.ToBroker_Resolved:
		return fmt.Sprintf("resolved %d", m.Resolved.GetUid())
	case *worker.ToBroker_Prompt:
		return describePrompt(m.Prompt)
	case *worker.ToBroker_Taken:
		return strings.TrimSpace(fmt.Sprintf("taken %d %s", m.Taken.GetIndex(), m.Taken.GetError()))
	case *worker.ToBroker_Withdrawn:
		return fmt.Sprintf("withdrawn %d %s", m.Withdrawn.GetIndex(), word(m.Withdrawn.GetOutcome().String(), "OUTCOME_"))
	case *worker.ToBroker_Text:
		return describeMessage(m.Text)
	case *worker.ToBroker_Opened:
		return fmt.Sprintf("opened %s", m.Opened.GetEnvironment())
	case *worker.ToBroker_Exited:
		return number(fmt.Sprintf("exited %d", m.Exited.GetStatus()), m.Exited.GetSignal())
	case *worker.ToBroker_Closed:
		return strings.TrimSpace(fmt.Sprintf("closed %d %s", m.Closed.GetPamResult(), m.Closed.GetText()))
	case *worker.ToBroker_Name:
		return strings.TrimSpace(fmt.Sprintf("name %d %s", m.Name.GetUid(), m.Name.GetName()))
	case *worker.ToBroker_Ready:
		return "ready"
	case *worker.ToBroker_Failed:
		return fmt.Sprintf("failed %s %d %s", m.Failed.GetError(), m.Failed.GetPamResult(), m.Failed.GetText())
	}
	return "a packet without a message"
}

// DescribeSession puts what a Hello says into a line.
func DescribeSession(s *worker.Session) string {
	if s == nil {
		return "idle"
	}
	line := fmt.Sprintf("session %d %s", s.GetStart().GetSession(), phase(s.GetPhase()))
	if s.GetPrompt() != nil {
		line += fmt.Sprintf(", number %d %s", s.GetPrompt().GetNumber(), describePrompt(s.GetPrompt()))
	}
	if s.GetReady() {
		line += ", ready"
	}
	if s.GetProceeds() {
		line += ", proceeds"
	}
	if s.GetOpened() != nil {
		line += ", opened"
	}
	if s.GetExited() != nil {
		line += ", " + Describe(&worker.ToBroker{Message: &worker.ToBroker_Exited{Exited: s.GetExited()}})
	}
	if s.GetClosed() != nil {
		line += ", " + Describe(&worker.ToBroker{Message: &worker.ToBroker_Closed{Closed: s.GetClosed()}})
	}
	if s.GetFailed() != nil {
		line += ", " + Describe(&worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: s.GetFailed()}})
	}
	return line
}

func describePrompt(p *worker.Prompt) string {
	line := fmt.Sprintf("prompt %d %s", p.GetIndex(), word(p.GetStyle().String(), "STYLE_"))
	switch p.GetStyle() {
	case worker.Style_STYLE_BINARY:
		line += fmt.Sprintf(" %x", p.GetBinary())
	default:
		line += fmt.Sprintf(" %s", p.GetText())
	}
	if len(p.GetChoices()) > 0 {
		line += fmt.Sprintf(" %v", p.GetChoices())
	}
	for _, m := range p.GetMessages() {
		line += " after " + describeMessage(m)
	}
	return line
}

func describeMessage(m *worker.Message) string {
	return fmt.Sprintf("%s %s", word(m.GetStyle().String(), "STYLE_"), m.GetText())
}

func number(line string, n uint32) string {
	if n == 0 {
		return line
	}
	return fmt.Sprintf("%s %d", line, n)
}

func phase(p worker.Phase) string { return word(p.String(), "PHASE_") }

func word(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
}
