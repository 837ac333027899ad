// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/transport"
	"github.com/pamprompt/pamprompt/broker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/broker/embedded"
	"github.com/pamprompt/pamprompt/broker/systemd"
	"github.com/pamprompt/pamprompt/broker/workers"
)

const defaultSocket = "/run/pamprompt/broker.sock"

// connectTimeout bounds the start: a bus that takes longer is not there.
const connectTimeout = 30 * time.Second

// run puts the parts together, in the order in which they need each other, and
// takes them apart in the reverse one.
func run(ctx context.Context, f *flags, log *slog.Logger) error {
	reloads := hangups()
	address, socket := transport.SystemAddress(), f.socket
	var children []*embedded.Child
	defer func() {
		for i := len(children) - 1; i >= 0; i-- {
			children[i].Stop(log)
		}
	}()
	if f.privateBus {
		dir, err := embedded.Dir()
		if err != nil {
			return fmt.Errorf("make a directory for the private bus: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		var child *embedded.Child
		if child, address, err = embedded.StartBus(dir); err != nil {
			return err
		}
		children = append(children, child)
		if socket == "" {
			socket = filepath.Join(dir, "workers", "broker.sock")
		}
		if f.worker == "" {
			f.worker = beside("pamprompt-worker")
		}
	}
	if f.pamDir != "" && bus.IsReal(address) {
		return errors.New("--pam-dir is not for the system bus: a worker there serves the system's own PAM services; use --private-bus")
	}
	pool, socket, err := listen(socket, log)
	if err != nil {
		return err
	}
	b, err := connect(ctx, broker.Config{
		Address: address, Pool: pool, Log: log, Version: version, CloseTimeout: f.closeTimeout, Alone: f.privateBus,
		Rules: firstRules(f.policy, log), AskPassword: f.askPassword, UserFiles: broker.UserFiles(f.userFiles),
		Ready: func() {
			systemd.Ready(log)
			if f.privateBus {
				fmt.Println("DBUS_SYSTEM_BUS_ADDRESS=" + address)
			}
		},
	})
	if err != nil {
		pool.Close()
		return err
	}
	if f.worker != "" {
		child, err := embedded.StartPool(f.worker, socket, f.pamDir, f.logLevel)
		if err != nil {
			pool.Close()
			return err
		}
		children = append(children, child)
	}
	go reload(ctx, reloads, f.policy, b.SetRules, log)
	go systemd.Watchdog(ctx, b.Alive, log)
	defer context.AfterFunc(ctx, func() { systemd.Stopping(log) })()
	return serve(ctx, b, children)
}

// listen takes the socket for the workers from the service manager, or makes it
// where we are told, or where workers look for it. It says where that is.
func listen(path string, log *slog.Logger) (*workers.Pool, string, error) {
	passed, err := systemd.Listener()
	switch {
	case err != nil:
		return nil, "", err
	case passed != nil && path != "":
		_ = passed.Close()
		return nil, "", fmt.Errorf("the service manager passes a socket, and --socket=%s names another", path)
	case passed != nil:
		return workers.On(passed, log), passed.Addr().String(), nil
	case path == "":
		path = defaultSocket
	}
	pool, err := workers.Listen(path, log)
	return pool, path, err
}

func beside(name string) string {
	own, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(own), name)
}

func connect(ctx context.Context, config broker.Config) (*broker.Broker, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	b, err := broker.New(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("there is no bus at %s (%w): start dbus, set DBUS_SYSTEM_BUS_ADDRESS, or use --private-bus", config.Address, err)
	}
	return b, nil
}

// serve runs the broker until a signal, or until something it cannot do
// without has ended.
func serve(ctx context.Context, b *broker.Broker, children []*embedded.Child) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, child := range children {
		go func() {
			select {
			case <-child.Done():
				stop(child.Err())
			case <-running.Done():
			}
		}()
	}
	err := b.Run(running)
	var named dbus.Error
	switch {
	case errors.As(err, &named) && named.Name == "org.freedesktop.DBus.Error.AccessDenied":
		return fmt.Errorf("%w: install dbus-1/system.d/%s.conf into /usr/share/dbus-1/system.d and reload the bus", err, api.BusName)
	case errors.Is(err, bus.ErrNameTaken):
		return fmt.Errorf("%w: another pamprompt-broker runs on this bus", err)
	case err == nil && ctx.Err() == nil: // not by a signal: something has ended
		return context.Cause(running)
	}
	return err
}
