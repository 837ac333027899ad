// SPDX-License-Identifier: Apache-2.0

// Package systemd is what a broker does as a unit of systemd: it takes the
// socket for the workers that its socket unit has opened, and tells the service
// manager when it serves, that it still does, and that it stops. Each is nothing
// without a service manager that asks for it. It starts no process and knows of
// no session.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Listener is the socket that the service manager listens on for us
// (sd_listen_fds(3)), or nil when it has none. It is the caller's.
func Listener() (*net.UnixListener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil
	}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if len(files) > 1 {
		return nil, fmt.Errorf("the service manager passes %d sockets, not the one for the workers", len(files))
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("take the socket %s from the service manager: %w", files[0].Name(), err)
	}
	unix, ok := l.(*net.UnixListener)
	if !ok || unix.Addr().Network() != "unixpacket" {
		_ = l.Close()
		return nil, fmt.Errorf("the service manager passes a socket of type %s: ListenSequentialPacket= is needed", l.Addr().Network())
	}
	return unix, nil
}

// Ready tells the service manager that the name is taken and calls are served.
func Ready(log *slog.Logger) { tell(daemon.SdNotifyReady, log) }

// Stopping tells the service manager that we end on purpose.
func Stopping(log *slog.Logger) { tell(daemon.SdNotifyStopping, log) }

func tell(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// Watchdog tells the service manager that we are alive, as often as it wants to
// hear it (WatchdogSec=), for as long as alive says so, until the context ends.
// It says it three times in each interval: once may be late on a busy machine.
func Watchdog(ctx context.Context, alive func(context.Context) bool, log *slog.Logger) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not understood", "error", err)
	}
	if interval <= 0 {
		return
	}
	ticks := time.NewTicker(interval / 3)
	defer ticks.Stop()
	for {
		// One that does not answer is asked for as long as it takes: it is the
		// service manager's to say when that is too long.
		if alive(ctx) {
			tell(daemon.SdNotifyWatchdog, log)
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}
