// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// errHangup is the end of whoever was at the terminal.
var errHangup = fmt.Errorf("%w: hangup", errInterrupted)

// What signals do. Before the session is open, and while it is closed, the first
// list ends us. While the command runs they are its signals, and only SIGHUP ends us.
var (
	ending = []os.Signal{
		unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
	}
	stopping = []os.Signal{unix.SIGTSTP, unix.SIGWINCH}
)

// heeded leaves out what we were started to ignore, as nohup does.
func heeded(signals []os.Signal) []os.Signal {
	list := []os.Signal{unix.SIGKILL} // which never comes; an empty list would mean all
	for _, s := range signals {
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// signal takes up one that came while the command runs. On a terminal of its own
// keys are the command's already, so one that was sent to us is for it alone; else
// keys of our terminal have sent it, to what would be its group in a shell.
func (r *running) signal(s os.Signal) error {
	switch {
	case s == unix.SIGHUP:
		return errHangup
	case s == unix.SIGWINCH:
		if r.front != nil {
			r.front.resize()
		}
		return nil
	case s == unix.SIGTSTP:
		return r.suspend()
	case r.front == nil && (s == unix.SIGINT || s == unix.SIGQUIT):
		return r.courier.pass(order{target: api.KillGroup, signal: s.(syscall.Signal)})
	}
	return r.courier.pass(order{target: api.KillLeader, signal: s.(syscall.Signal)})
}

// patience is how long a stop waits until the command was stopped: without a
// broker for a moment it would be long.
const patience = time.Second

// suspend stops the command, if it has no terminal of its own, and us. The
// command's is SIGSTOP, since it has no parent in its session of processes:
// the kernel lets nobody stop such a group from a terminal (setpgid(2)).
func (r *running) suspend() error {
	if r.front == nil {
		stopped := make(chan struct{})
		if err := r.courier.pass(order{api.KillGroup, unix.SIGSTOP, stopped}); err != nil {
			return err
		}
		select {
		case <-stopped:
		case <-time.After(patience):
		}
	} else {
		r.front.rest()
	}
	select { // of an earlier stop
	case <-r.continued:
	default:
	}
	if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
		return os.NewSyscallError("kill", err)
	}
	<-r.continued // all threads stop, but not at once
	return r.resume()
}

// resume is after a stop of any kind. The terminal is not ours to make raw while
// another group has it: then the kernel stops us again.
func (r *running) resume() error {
	if r.front != nil {
		return r.front.engage()
	}
	return r.courier.pass(order{target: api.KillGroup, signal: unix.SIGCONT})
}

// order is a signal for processes of the session.
type order struct {
	target string
	signal syscall.Signal
	done   chan<- struct{} // closed when it was passed on; may be nil
}

// courier passes signals on in the order in which they came, while others go on:
// the broker may be away for a moment.
type courier struct {
	orders chan order
	failed chan error
}

// undelivered is how many signals may wait. Whoever sends another one wants to leave.
const undelivered = 8

func newCourier(ctx context.Context, s *api.Session, front *forwarding) *courier {
	c := &courier{orders: make(chan order, undelivered), failed: make(chan error, 1)}
	go func() {
		defer front.guard()
		for {
			select {
			case o := <-c.orders:
				err := patiently(ctx, s, func() error { return s.Kill(ctx, o.target, o.signal) })
				if err != nil {
					c.failed <- fmt.Errorf("pass %s on to the command: %w", unix.SignalName(o.signal), err)
					return
				}
				if o.done != nil {
					close(o.done)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// pass does not wait.
func (c *courier) pass(o order) error {
	select {
	case c.orders <- o:
		return nil
	default:
		return errInterrupted
	}
}

// restarts is how many restarts of the broker a call is made again after.
const restarts = 5

// patiently makes a call about a session that is open, again if the broker was
// started again meanwhile.
func patiently(ctx context.Context, s *api.Session, call func() error) error {
	err := call()
	for n := 0; n < restarts && (errors.Is(err, api.ErrNoBroker) || errors.Is(err, api.NoSuchSession)); n++ {
		if s.Wait(ctx, api.StateOpen) != nil {
			return err
		}
		err = call()
	}
	return err
}
