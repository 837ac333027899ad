// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 5 * time.Second
)

// pool keeps idle workers. Its one goroutine owns all of this; one goroutine a
// child waits for what the child says and for its end. A worker that has a
// session is none of the pool's business, except that it is reaped.
type pool struct {
	executable string
	args       []string
	size       int
	log        *slog.Logger
	cgroups    *cgroups

	events   chan event
	idle     map[*child]bool
	pending  int           // to be started when delay is over
	delay    time.Duration // before the next start after an early death; 0 when all is well
	failing  bool          // none could be started at the last try, and the log knows
	fate     string        // how idle ones have ended since one was taken, which the log knows
	stopping bool
}

// child is one worker process.
type child struct {
	cmd     *exec.Cmd
	pidfd   int
	socket  *net.UnixConn // our end; closing it tells an idle worker to end
	session string        // what it said it took; empty while idle
	cgroup  string        // the directory of its cgroup; empty for none
}

// event is what happened to a child, or without one the time to start more.
type event struct {
	child *child
	taken string // the session that it took
	err   error  // how it ended, from Wait
	ended bool
}

// runPool runs until SIGTERM or SIGINT. Workers with a session go on after it.
func runPool(f *flags, log *slog.Logger) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the worker's own executable: %w", err)
	}
	ignoreSignals()
	haveThreads()
	if err := lockMemory(); err != nil { // as each worker does
		log.Warn(unlocked, "error", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	newPool(executable, f, log).run(stop)
	return nil
}

func newPool(executable string, f *flags, log *slog.Logger) *pool {
	args := []string{"--idle", "--socket", f.socket, "--log-level", f.level.String(),
		"--broker-timeout", f.brokerTimeout.String()}
	if f.pamDir != "" {
		args = append(args, "--pam-dir", f.pamDir)
	}
	return &pool{
		executable: executable,
		args:       args,
		size:       f.size,
		log:        log,
		cgroups:    ownCgroups(),
		events:     make(chan event),
		idle:       make(map[*child]bool),
	}
}

func (p *pool) run(stop <-chan os.Signal) {
	p.pending = p.size
	p.refill()
	for !p.stopping || len(p.idle) > 0 {
		select {
		case e := <-p.events:
			p.handle(e)
		case <-stop:
			p.stop()
		}
	}
}

// stop tells the idle workers to end. One that takes a session at this very
// moment keeps it.
func (p *pool) stop() {
	p.stopping = true
	for c := range p.idle {
		_ = c.socket.CloseWrite()
	}
}

// handle takes an event in.
func (p *pool) handle(e event) {
	switch {
	case e.child == nil:
		p.refill()
	case e.ended:
		p.ended(e.child, e.err)
	case e.taken != "":
		e.child.session = e.taken
		delete(p.idle, e.child)
		p.delay, p.fate = 0, ""
		p.replace()
	}
}

// ended notes the end of a child. One that never had a session is replaced with
// patience, and what ended it is said once: it will end the next one too.
func (p *pool) ended(c *child, err error) {
	_ = c.socket.Close()
	remove(c.cgroup)
	idle := p.idle[c]
	delete(p.idle, c)
	if err != nil {
		fate := fateOf(err)
		if !idle || fate != p.fate {
			p.log.Error(epitaph(c, fate))
		}
		if idle {
			p.fate = fate
		}
	}
	if !idle {
		return
	}
	if !p.stopping {
		p.delay = min(max(2*p.delay, firstRestart), lastRestart)
		p.replace()
	}
}

// replace starts one more worker, now or when the delay is over.
func (p *pool) replace() {
	if p.stopping {
		return
	}
	p.pending++
	if p.delay == 0 {
		p.refill()
		return
	}
	time.AfterFunc(p.delay, func() { p.events <- event{} })
}

// refill starts what is pending.
func (p *pool) refill() {
	for ; p.pending > 0 && !p.stopping; p.pending-- {
		if err := p.start(); err != nil {
			if !p.failing {
				p.log.Error("workers cannot be started; this is tried again", "error", err)
			}
			p.failing = true
			p.delay = min(max(2*p.delay, firstRestart), lastRestart)
			time.AfterFunc(p.delay, func() { p.events <- event{} })
			return
		}
		if p.failing {
			p.failing = false
			p.log.Info("workers can be started again")
		}
	}
}

// start starts one idle worker.
func (p *pool) start() error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	cmd := exec.Command(p.executable, p.args...)
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	c := &child{cmd: cmd, socket: ours}
	// Of its own session, so that what is meant for the pool's terminal does
	// not reach the workers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &c.pidfd}
	cgroup, err := p.cgroups.add()
	if err != nil && !p.failing { // it can do without
		p.log.Warn(err.Error())
	}
	if cgroup != nil {
		defer func() { _ = cgroup.Close() }()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(cgroup.Fd())
		c.cgroup = cgroup.Name()
	}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		remove(c.cgroup)
		return fmt.Errorf("start a worker: %w", err)
	}
	p.idle[c] = true
	go p.watch(c)
	return nil
}

// environment is all that a worker needs: of ours where the credentials are, and
// that standard error is the journal.
func environment() []string {
	environment := []string{tunables}
	for _, name := range []string{credentials, journalStream} {
		if value, ok := os.LookupEnv(name); ok {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}

// watch passes on what a child says and how it ends.
func (p *pool) watch(c *child) {
	// One line, or none from a worker that ends idle. The end of the socket is
	// not the end of a worker with a session: a module's child may still hold it.
	line, _ := bufio.NewReader(c.socket).ReadString('\n')
	if session, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "taken "); ok {
		p.events <- event{child: c, taken: session}
	}
	waitEnd(c.pidfd)
	p.events <- event{child: c, ended: true, err: c.cmd.Wait()}
}

// waitEnd waits until a process has ended, and leaves it to be reaped. Wait
// alone would hold a thread for as long as a session lasts. The kernel may have
// no pidfd (-1): then it does.
func waitEnd(pidfd int) {
	if pidfd < 0 || unix.SetNonblock(pidfd, true) != nil {
		return
	}
	f := os.NewFile(uintptr(pidfd), "pidfd")
	defer func() { _ = f.Close() }()
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		return err != unix.EINTR && err != nil || info.Signo != 0
	})
}

// fateOf says how a child ended.
func fateOf(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return "ended: " + err.Error()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "was killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("ended with status %d", exit.ExitCode())
}

// epitaph says which child it was.
func epitaph(c *child, fate string) string {
	who := fmt.Sprintf("worker %d", c.cmd.Process.Pid)
	if c.session != "" {
		who += " (session " + c.session + ")"
	}
	return who + " " + fate
}

// socketPair returns both ends of a socket pair; ours does not hold a thread.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the socket pair of a worker: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "worker")
	defer func() { _ = f.Close() }()
	theirs = os.NewFile(uintptr(fds[1]), "pool")
	conn, err := net.FileConn(f)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make the socket pair of a worker: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
