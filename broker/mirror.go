// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/broker/askpassword"
)

// mirror is the copy of a prompt where systemd's agents look. The zero value
// is none.
type mirror struct {
	posting *askpassword.Posting
	missed  bool // an agent answered, and asks nobody any more
}

// close takes the copy away; when it returns there is no file.
func (m *mirror) close() {
	m.posting.Close()
	m.posting = nil
}

// again is called when the answer that came was not taken: an agent that has
// answered to no avail must find a new file, or it never asks again.
func (m *mirror) again() {
	if m.missed {
		m.close()
		m.missed = false
	}
}

// copied brings the copy for the system's agents in line with what is wanted.
func (q *prompt) copied(wanted bool, request func() protocol.Request) {
	switch {
	case !wanted:
		q.mirror.close()
	case q.mirror.posting == nil && q.b.files != nil:
		q.mirror.posting = q.b.files.Post(request(), q.replied)
	}
}

// copyable reports whether a prompt is one that systemd's agents can show.
func (q *prompt) copyable() bool {
	return !q.muted && (q.style == api.StyleSecret || q.style == api.StyleVisible)
}

// remirror brings the copies of all prompts in line with what is wanted: agents
// have come or gone, or users' own ones are to be asked.
func (b *Broker) remirror() {
	for _, q := range b.prompts {
		q.asker.mirror(q)
	}
}

// replied is what an agent said to the copy. It runs in the adapter.
func (q *prompt) replied(r protocol.Reply) {
	if r.Answer == nil {
		q.b.post(func() {
			if q.waits() {
				q.b.auditPrompt(eventCancel, agentOrigin(r), q)
				q.asker.cancel(q)
			}
		})
		return
	}
	f, err := r.Answer.Memfd()
	r.Answer.Wipe()
	if err != nil {
		q.b.log.Error("an agent's answer could not be passed on", "prompt", q.number, "error", err)
		return
	}
	if !q.b.post(func() { q.take(f, agentOrigin(r)) }) {
		_ = f.Close()
	}
}

func agentOrigin(r protocol.Reply) origin {
	return origin{channel: channelAskPassword, uid: r.UID, pid: uint32(r.PID)}
}

// take is the owner's part of replied.
func (q *prompt) take(f *os.File, by origin) {
	defer func() { _ = f.Close() }()
	if !q.waits() {
		return
	}
	q.mirror.missed = true // unless it is the answer, and that is the end
	if q.claim != nil {
		return // another answer was first
	}
	if err := q.asker.answer(q, newClaim(by), f); err != nil {
		q.b.log.Warn("an agent's answer was not taken", "prompt", q.number, "error", err)
	}
}

// waits reports whether the prompt has not ended.
func (q *prompt) waits() bool { return q.b.prompts[q.number] == q }

// userAgents is the version of systemd from which on users have agents and
// directories of their own.
const userAgents = 257

// askSystemd finds out whether prompts are to be put into users' own
// directories too.
func (b *Broker) askSystemd(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	text, err := b.bus.Property(ctx, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Version")
	if err != nil {
		b.log.Debug("users' own agents are not asked: systemd does not say which version it is", "error", err)
		return
	}
	b.log.Debug("systemd runs", "version", text)
	if systemdVersion(text) >= userAgents {
		b.post(b.useUserFiles)
	}
}

// useUserFiles has prompts put into users' own directories, those that wait
// already too.
func (b *Broker) useUserFiles() {
	b.userFiles = true
	b.remirror()
}

// systemdVersion is the number that a version begins with: 257 of
// "257.9-0ubuntu2"; 0 if there is none.
func systemdVersion(text string) int {
	digits := text
	if i := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = text[:i]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}
