// SPDX-License-Identifier: Apache-2.0

// Package workers is the broker's side of the worker socket: it listens,
// checks who dials, keeps the idle workers, hands them out, and carries packets
// to and from those that have a session. It starts no process and interprets no
// packet but Hello and Name; what a session's packets mean is for the broker.
//
//	workers.go  the socket and the idle workers
//	worker.go   one worker: its packets, its end
//	name.go     what an idle worker is asked before there is a session
//	sweep.go    what it clears away after one that died
package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// helloTimeout is how long a connection may take to say who it is.
const helloTimeout = 10 * time.Second

// maxConnections bounds the connections that are accepted at once. Only root
// can dial, so this is against a pool gone wild.
const maxConnections = 20000

// ErrNoWorker says that no worker was idle in time.
var ErrNoWorker = errors.New("no idle worker")

// ErrNotAccepted says that no worker is idle and none can be accepted at present, for want
// of descriptors or memory.
var ErrNotAccepted = errors.New("no worker can be accepted")

// Adopt takes over a worker that already has a session, after a restart of the
// broker or a lost connection. It calls Bind, or Refuse.
type Adopt func(*Worker, *worker.Session)

// Pool is the set of idle workers. Its methods may be called from several
// goroutines.
type Pool struct {
	listener *net.UnixListener
	adopt    Adopt
	log      *slog.Logger

	mu    sync.Mutex
	idle  []*Worker            // the one that waits longest first
	queue []chan *Worker       // who waits for one, in order
	all   map[*Worker]struct{} // every connection, for Close
	done  bool

	trouble error // why none can be accepted at present; nil while one can

	bare time.Time // when the log was told last that all idle ones have ended

	early    sync.WaitGroup // connections that waited before Serve, until they have said Hello
	returned chan struct{}
}

// Listen makes the socket at path, in a directory that only its owner may
// enter, and replaces what a dead broker left there.
func Listen(path string, log *slog.Logger) (*Pool, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the worker socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for workers: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen for workers: %w", err)
	}
	return On(l, log), nil
}

// On takes a socket that somebody else has made, such as the service manager,
// and leaves it in its place at the end.
func On(l *net.UnixListener, log *slog.Logger) *Pool {
	return &Pool{listener: l, log: log, all: make(map[*Worker]struct{}), returned: make(chan struct{})}
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket: remove it or choose another --socket", path)
	}
	if c, dialErr := worker.Dial(path); dialErr == nil {
		_ = c.Close()
		return fmt.Errorf("another broker listens on %s: stop it or choose another --socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket of a broker that is gone: %w", err)
	}
	return nil
}

// Returned is closed when all connections that waited before Serve have said who they
// are, and are idle, adopted or gone.
func (p *Pool) Returned() <-chan struct{} { return p.returned }

// Serve accepts workers until Close. It returns nil then.
func (p *Pool) Serve(adopt Adopt) error {
	p.adopt = adopt
	pause := firstPause
	for waited := true; ; {
		if waited && !p.pending() {
			waited = false
			go func() {
				p.early.Wait()
				close(p.returned)
			}()
		}
		c, err := p.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil {
			err = p.accept(c, waited)
			if err != nil && !scarce(err) {
				p.log.Warn("a connection to the worker socket was refused", "error", err)
				continue
			}
		}
		p.note(err)
		if err == nil {
			pause = firstPause
			continue
		}
		// It passes; a connection that was not accepted waits, or is dialled again.
		time.Sleep(pause)
		pause = min(2*pause, lastPause)
		if (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) && room() {
			p.note(nil) // also when nobody dials: accept(2) wants a descriptor before it looks
		}
	}
}

// room reports whether there are descriptors for one more: its socket and its pidfd.
func room() bool {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	return errors.Join(unix.Close(fds[0]), unix.Close(fds[1])) == nil
}

// How long nothing is accepted after an error that passes.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// scarce reports whether it is us who have no room for one more.
func scarce(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)
}

// note says once that workers cannot be accepted, and once that they can again.
func (p *Pool) note(err error) {
	p.mu.Lock()
	before := p.trouble
	p.trouble = err
	if err != nil { // whoever waits for a worker need not
		for _, turn := range p.queue {
			close(turn)
		}
		p.queue = nil
	}
	p.mu.Unlock()
	switch {
	case err != nil && before == nil:
		p.log.Error("workers cannot be accepted; this is tried again", "error", err)
	case err == nil && before != nil:
		p.log.Info("workers can be accepted again")
	}
}

// pending reports whether somebody waits to be accepted.
func (p *Pool) pending() bool {
	raw, err := p.listener.SyscallConn()
	waits := false
	if err == nil {
		err = raw.Control(func(fd uintptr) { waits = readable(int(fd)) })
	}
	return err == nil && waits
}

// accept takes a connection, which is one of those that have waited if it is early.
func (p *Pool) accept(c *net.UnixConn, early bool) error {
	conn, err := worker.NewConn(c)
	if err != nil {
		return err
	}
	pid, uid := conn.Peer()
	if uid != 0 && uid != uint32(os.Geteuid()) {
		_ = conn.Close()
		return fmt.Errorf("it is from uid %d (pid %d), not from root", uid, pid)
	}
	process, err := openPidfd(c, pid)
	if err != nil { // without one it could not be killed
		_ = conn.Close()
		return fmt.Errorf("pin the process of a worker: %w", err)
	}
	w := &Worker{pool: p, conn: conn, pid: pid, process: process}
	p.mu.Lock()
	full := p.done || len(p.all) >= maxConnections
	if !full {
		p.all[w] = struct{}{}
	}
	p.mu.Unlock()
	if full {
		w.Close()
		return fmt.Errorf("there are %d already", maxConnections)
	}
	said := func() {}
	if early {
		p.early.Add(1)
		said = p.early.Done
	}
	go w.read(said)
	if w.process != nil {
		go w.watch()
	}
	return nil
}

// Acquire hands out an idle worker, waiting for one until the context ends. It
// fails with ErrNoWorker then, and with ErrNotAccepted at once. The caller binds it.
func (p *Pool) Acquire(ctx context.Context) (*Worker, error) {
	p.mu.Lock()
	if len(p.idle) > 0 {
		w := p.idle[0]
		p.idle = p.idle[1:]
		p.mu.Unlock()
		return w, nil
	}
	if p.trouble != nil {
		defer p.mu.Unlock()
		return nil, p.unacceptable()
	}
	turn := make(chan *Worker, 1)
	p.queue = append(p.queue, turn)
	p.mu.Unlock()
	select {
	case w, ok := <-turn:
		if !ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			return nil, p.unacceptable()
		}
		return w, nil
	case <-ctx.Done():
		p.forget(turn)
		return nil, ErrNoWorker
	}
}

// unacceptable is why nobody gets a worker at present. It is called with the lock held.
func (p *Pool) unacceptable() error {
	if p.trouble == nil { // it has just passed
		return ErrNoWorker
	}
	return fmt.Errorf("%w: %w", ErrNotAccepted, p.trouble)
}

// forget takes somebody out of the queue; a worker that came in that moment
// goes to the next.
func (p *Pool) forget(turn chan *Worker) {
	p.mu.Lock()
	for i, other := range p.queue {
		if other == turn {
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			break
		}
	}
	p.mu.Unlock()
	select {
	case w, ok := <-turn:
		if ok {
			p.putIdle(w)
		}
	default:
	}
}

// Return gives back a worker that was acquired and never bound.
func (p *Pool) Return(w *Worker) { p.putIdle(w) }

func (p *Pool) putIdle(w *Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, alive := p.all[w]; !alive {
		return
	}
	if len(p.queue) > 0 {
		p.queue[0] <- w
		p.queue = p.queue[1:]
		return
	}
	p.idle = append(p.idle, w)
}

// Idle is the number of idle workers.
func (p *Pool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

func (p *Pool) drop(w *Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, w)
	for i, other := range p.idle {
		if other == w {
			p.idle = append(p.idle[:i:i], p.idle[i+1:]...)
			p.noteBare()
			return
		}
	}
}

// bareEvery is how often the log is told at most that no worker is idle any more: they may come
// and end without end.
const bareEvery = time.Minute

// noteBare says that all idle workers have ended, as they do with whoever has started them. It
// is called with the lock held.
func (p *Pool) noteBare() {
	if p.done || len(p.idle) > 0 || !p.bare.IsZero() && time.Since(p.bare) < bareEvery {
		return
	}
	p.bare = time.Now()
	p.log.Info("no worker is idle: those that were have ended; sessions are opened when the pool has started others")
}

// Close stops listening and closes every connection: workers with a session go
// on and dial again.
func (p *Pool) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.done = true
	all := make([]*Worker, 0, len(p.all))
	for w := range p.all {
		all = append(all, w)
	}
	p.mu.Unlock()
	for _, w := range all {
		w.Close()
	}
}
