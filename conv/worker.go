// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what a worker is started with.
type Config struct {
	Socket string       // where the broker listens
	PAMDir string       // for pam_start_confdir(3); empty for the system's own stacks
	Pool   *os.File     // this end of the pool's socket pair; nil without a pool
	Log    *slog.Logger // what it says must never hold a secret
	// Credentials is the directory of systemd's credentials; empty for none.
	Credentials string
	// BrokerTimeout is how long a session that does not linger goes on
	// without a broker; 0 is for ever.
	BrokerTimeout time.Duration
}

// Work runs one worker: it waits for a Start, runs the transaction, and returns
// when all is over and the broker was told. It must be called on the main
// thread of the process, from a goroutine that is locked to it:
// /proc/self/loginuid takes writes from no other thread, and session keyrings
// and mount namespaces belong to the one that made them.
func Work(c Config) error {
	if unix.Gettid() != unix.Getpid() {
		return errors.New("PAM has to run on the main thread of the process")
	}
	// Go has raised its own, which modules and the command would inherit.
	files := firstLimits().files
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("set RLIMIT_NOFILE: %w", err)
	}
	if err := joinKeyring(); errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		c.Log.Debug("there are no keyrings", "error", err) // as in containers
	} else if err != nil {
		return fmt.Errorf("join a session keyring: %w", err)
	}
	s := newSession(c.Log)
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	go closeOnTerm(term, s)
	go dialForever(c, s)
	if !waitForStart(c, s) {
		return nil
	}
	newTransaction(s, c).run()
	return s.waitTold()
}

// waitForStart returns false when the worker ends idle: the pool is gone, or
// somebody asked it to go.
func waitForStart(c Config, s *session) bool {
	if c.Pool != nil {
		go retireWithPool(c.Pool, s)
	}
	select {
	case <-s.started:
	case <-s.retired:
		return false
	}
	if c.Pool != nil {
		// A pool that is gone does not matter any more.
		_, _ = fmt.Fprintf(c.Pool, "taken %d\n", s.start().GetSession())
	}
	return true
}

// retireWithPool ends an idle worker when its pool is gone: the pool never
// writes, so the first thing that comes is the end.
func retireWithPool(pool io.Reader, s *session) {
	_, _ = io.Copy(io.Discard, pool)
	s.retire()
}

// closeOnTerm makes SIGTERM the same as a Close from the broker.
func closeOnTerm(term <-chan os.Signal, s *session) {
	<-term
	if !s.retire() {
		s.close()
	}
}
