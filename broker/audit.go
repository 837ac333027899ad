// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// The events that are audited. Each is one entry of the journal, with the
// attributes event, session, prompt, service, user, command, caller-uid, caller-pid,
// caller, channel and why, of which those are left out that it has none of. What
// PAM itself writes to the kernel's audit log is apart from this.
const (
	eventOpen    = "open"
	eventAnswer  = "answer"
	eventCancel  = "cancel"
	eventRefusal = "refusal"
	eventClose   = "close"
)

// Channels by which somebody answers.
const (
	channelDBus        = "dbus"
	channelAskPassword = "ask-password"
	channelUserAgent   = "user-agent" // the user's own ask-password directory
)

// origin is who did something, and how. The pid is for people to read.
type origin struct {
	channel string
	uid     uint32
	pid     uint32
	name    string // of a connection to the bus
}

func callerOrigin(p *bus.Peer) origin {
	return origin{channelDBus, p.UID, p.PID, p.Name}
}

func (o origin) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.Uint64("caller-uid", uint64(o.uid))}
	if o.pid != 0 {
		attrs = append(attrs, slog.Uint64("caller-pid", uint64(o.pid)))
	}
	if o.name != "" {
		attrs = append(attrs, slog.String("caller", o.name))
	}
	return append(attrs, slog.String("channel", o.channel))
}

// about are the attributes of a session.
func (s *session) about() []slog.Attr {
	return []slog.Attr{
		slog.Uint64("session", s.id), slog.String("service", s.start.GetService()), slog.String("user", s.start.GetUser()),
	}
}

func (b *Broker) audit(level slog.Level, message, event string, groups ...[]slog.Attr) {
	attrs := []slog.Attr{slog.String("event", event)}
	for _, group := range groups {
		attrs = append(attrs, group...)
	}
	b.log.LogAttrs(context.Background(), level, message, attrs...)
}

// auditPrompt is an answer to a prompt, or the end of the wait for one.
func (b *Broker) auditPrompt(event string, by origin, q *prompt) {
	about := append([]slog.Attr{slog.Uint64("prompt", q.number)}, q.asker.about()...)
	message := "prompt answered"
	if event == eventCancel {
		message = "prompt cancelled"
	}
	b.audit(slog.LevelInfo, message, event, about, by.attrs())
}

// refused is somebody who may not do what it wanted. The reason stays here. Who
// is refused all the time cannot drown the rest of the journal.
func (b *Broker) refused(p *bus.Peer, action string, o policy.Object, why error) {
	left, ok := b.refusals.take(p.UID, time.Now())
	if !ok {
		return
	}
	about := []slog.Attr{slog.String("action", action)}
	if o.Service != "" {
		about = append(about, slog.String("service", o.Service), slog.String("user", o.User))
	}
	b.audit(slog.LevelWarn, "refused", eventRefusal, about, callerOrigin(p).attrs(), left, []slog.Attr{slog.Any("why", why)})
}

// How many refusals of one uid are told: so many at once, and so many a second.
const (
	refusalBurst = 100
	refusalRate  = 10
)

// refusals counts who was refused how often of late.
type refusals struct {
	mu sync.Mutex
	of map[uint32]*refusal
}

type refusal struct {
	limit *rate.Limiter
	left  int // out, since the last one that was told
}

// take is whether one more refusal is told, and what goes with it.
func (r *refusals) take(uid uint32, now time.Time) ([]slog.Attr, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.of[uid]
	if own == nil {
		for other, o := range r.of {
			if o.left == 0 && o.limit.TokensAt(now) >= refusalBurst {
				delete(r.of, other)
			}
		}
		if r.of == nil {
			r.of = make(map[uint32]*refusal)
		}
		own = &refusal{limit: rate.NewLimiter(refusalRate, refusalBurst)}
		r.of[uid] = own
	}
	if !own.limit.AllowN(now, 1) {
		own.left++
		return nil, false
	}
	left := own.left
	own.left = 0
	if left == 0 {
		return nil, true
	}
	return []slog.Attr{slog.Int("left-out", left)}, true
}
