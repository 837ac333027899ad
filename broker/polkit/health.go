// SPDX-License-Identifier: Apache-2.0

package polkit

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"
)

// away are the errors of a bus (D-Bus Specification, and what dbus-daemon and
// dbus-broker send) for a service that does not run, cannot be started, has ended
// with the question, or has more calls of ours open than the bus allows.
var away = []string{
	"org.freedesktop.DBus.Error.ServiceUnknown",
	"org.freedesktop.DBus.Error.NameHasNoOwner",
	"org.freedesktop.DBus.Error.NoReply",
	"org.freedesktop.DBus.Error.Disconnected",
	"org.freedesktop.DBus.Error.Timeout",
	"org.freedesktop.DBus.Error.TimedOut",
	"org.freedesktop.DBus.Error.NoServer",
	"org.freedesktop.DBus.Error.NoMemory",
	"org.freedesktop.DBus.Error.LimitsExceeded",
}

// awayWith begins the names of all errors of one kind: the service could not be
// started, by the bus itself or by systemd.
var awayWith = []string{"org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1."}

// isAway reports whether an error of a call says that polkit was not reached. What
// polkit itself says, also that it failed, is an answer, and so is what nobody knows.
func isAway(err error) bool {
	said, ok := errors.AsType[dbus.Error](err)
	return ok && (slices.Contains(away, said.Name) || slices.ContainsFunc(awayWith, func(kind string) bool {
		return strings.HasPrefix(said.Name, kind)
	}))
}

// How often the log is told that polkit is away: in a row, and then once in that time.
// One that is now slow and now not would fill it.
const (
	toldBurst = 3
	toldEvery = time.Minute
)

// health is whether polkit answers. The log is told when that changes, and not of
// each question.
type health struct {
	log  *slog.Logger
	loud *rate.Limiter

	mu   sync.Mutex
	told bool // that it is away
}

func newHealth(log *slog.Logger) health {
	return health{log: log, loud: rate.NewLimiter(rate.Every(toldEvery), toldBurst)}
}

// note is how a question ended that polkit had.
func (h *health) note(err error) {
	if errors.Is(err, ErrLeft) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return // nobody knows what it would have said
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch away := Undecided(err); {
	case away && !h.told && h.loud.Allow():
		h.told = true
		h.log.Warn("polkit does not answer: what it decides is refused meanwhile", "error", err)
	case !away && h.told:
		h.told = false
		h.log.Info("polkit answers again")
	}
}
