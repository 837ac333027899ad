// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// Two who want more than they may: nobody and daemon, since the bus takes only users that
// there are.
const greedy, curious = 65534, 1

// dialAs is a client of another uid: the bus asks the kernel, which takes the effective
// user of the thread that connects.
func dialAs(ctx context.Context, uid int, address string) (c *api.Client, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		const same = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), same); errno != 0 {
			err = errno
			return // and the thread ends with its goroutine
		}
		c, err = api.Dial(ctx, address)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, same); errno == 0 {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	return c, err
}

// tooManySessions takes all that a uid may have, and one more, which must be refused in words.
func tooManySessions(ctx context.Context, b *bench) error {
	c, err := dialAs(ctx, greedy, b.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	open := func() (err error) { _, err = c.Open(ctx, "word", "anna", api.Options{}); return err }
	if err := refused(open, 40, "wait 1s before each further one", "sessions already: close one"); err != nil {
		return fmt.Errorf("sessions of one uid: %w", err)
	}
	return nil
}

// tooManyQuestions takes all the questions that a uid may have, and one more.
func tooManyQuestions(ctx context.Context, b *bench) error {
	c, err := dialAs(ctx, curious, b.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	v, err := c.OpenConversation(ctx, "ftp", "anna", api.ConversationOptions{})
	if err != nil {
		return err
	}
	var asked []*os.File
	defer func() {
		for _, f := range asked {
			_ = f.Close()
		}
	}()
	return refused(func() error {
		_, f, err := v.Ask(ctx, api.Question{Style: api.StyleSecret, Message: "More? "})
		if err == nil {
			asked = append(asked, f)
		}
		return err
	}, 40, "16 questions of uid")
}

// refused does a thing until it is refused, at most so often, in one of these words.
func refused(do func() error, most int, words ...string) error {
	for range most {
		err := do()
		if err == nil {
			continue
		}
		for _, text := range words {
			if wantCode(err, api.LimitExceeded) == nil && strings.Contains(err.Error(), text) {
				return nil
			}
		}
		return fmt.Errorf("it is refused with %w", err)
	}
	return fmt.Errorf("it was done %d times, and never refused", most)
}

// Nothing is left of what was refused, nor of who was refused.
func TestWhatIsBeyondLimitsLeavesNoTrace(t *testing.T) {
	b := start(t)
	b.remember(t, 1)
	idle := b.idle(t)
	ctx := within(t)
	for name, want := range map[string]func(context.Context, *bench) error{"sessions": tooManySessions, "questions": tooManyQuestions} {
		if err := want(ctx, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.settle(t, "after a uid had all that it may", idle)
}
