// SPDX-License-Identifier: Apache-2.0

package workers

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// Worker is one connected worker. Send and Kill may be called from any
// goroutine.
type Worker struct {
	pool    *Pool
	conn    *worker.Conn
	pid     int
	process *os.File // a pidfd; nil where the kernel has none
	// version is what it said in its Hello, before anybody was given it.
	version uint32

	mu     sync.Mutex
	events Events
	asked  *inquiry // while it is asked for a name
	over   bool     // the reader has ended: nobody will hear of this worker again
}

// Events is where a bound worker's packets go, in their order, from one
// goroutine. Each call returns when the packet was dealt with, so that a
// worker that talks too much waits.
type Events interface {
	// Packet is one packet of a session: not Hello or Name, and never with an
	// unknown message.
	Packet(*worker.ToBroker)
	// Lost is the end of the connection, and of the events. The error is io.EOF
	// when the worker closed it or died, and wraps worker.ErrMalformed
	// when it broke the protocol.
	Lost(error)
}

// Unbind undoes Bind, for a worker that could not be used after all.
func (w *Worker) Unbind() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = nil
}

// PID is the worker's process, as the kernel noted it when it dialled.
func (w *Worker) PID() int { return w.pid }

// Version is that of the protocol which the worker speaks.
func (w *Worker) Version() uint32 { return w.version }

// Bind says where the packets of a worker that was acquired or adopted go. It
// returns false when the worker is lost already; no event comes then.
func (w *Worker) Bind(e Events) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	w.events = e
	return true
}

// Send sends a packet with these descriptors, which stay the caller's. It
// never waits; a worker that does not take packets is an error.
func (w *Worker) Send(m *worker.ToWorker, fds ...int) error { return w.conn.Send(m, fds...) }

// Refuse tells a worker, whose session the broker does not take, to close it. What it says
// until then is not heard.
func (w *Worker) Refuse() {
	w.mu.Lock()
	w.events = unheard{}
	w.mu.Unlock()
	_ = w.Send(&worker.ToWorker{Message: &worker.ToWorker_Close{Close: &worker.Close{}}})
}

// unheard are the Events of a worker that was refused: nobody has asked it to be silent
// while it closes.
type unheard struct{}

func (unheard) Packet(*worker.ToBroker) {}
func (unheard) Lost(error)              {}

// Kill ends the process, PAM or not. It does nothing when the process is not
// certain to be this worker.
func (w *Worker) Kill() error {
	if w.process == nil {
		return errors.New("the kernel has no pidfd for it")
	}
	raw, err := w.process.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	return cmp.Or(controlErr, err)
}

// Close closes the connection. The worker, if it has a session, dials again.
func (w *Worker) Close() {
	w.pool.drop(w) // first: nobody is to be handed what is closed
	_ = w.conn.Close()
	_ = w.process.Close()
}

// watch waits for the end of the process. What modules have started without exec may
// hold its end of the connection, which would never be over then.
func (w *Worker) watch() {
	raw, err := w.process.SyscallConn()
	if err == nil && raw.Read(func(fd uintptr) bool { return readable(int(fd)) }) == nil {
		_ = w.conn.CloseRead()
	}
}

// readable reports whether there is something for a descriptor to give: a pidfd's process
// has ended, somebody has dialled a listener.
func readable(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// read is the life of a connection: Hello, after which said is called, then packets until
// the end.
func (w *Worker) read(said func()) {
	err := w.hello()
	said()
	for err == nil {
		err = w.packet()
	}
	w.mu.Lock()
	events := w.events
	w.over = true
	if w.asked != nil {
		close(w.asked.name)
		w.asked = nil
	}
	w.mu.Unlock()
	if events != nil {
		events.Lost(err)
	} else if !errors.Is(err, io.EOF) {
		w.pool.log.Warn("a worker without a session was dropped", "pid", w.pid, "error", err)
	}
	w.Close()
}

// hello reads the first packet and files the worker where it belongs.
func (w *Worker) hello() error {
	late := time.AfterFunc(helloTimeout, func() { _ = w.conn.Close() })
	m, err := w.receive()
	if !late.Stop() || err != nil {
		return errors.Join(errors.New("it did not say hello"), err)
	}
	hello := m.GetHello()
	w.version = hello.GetVersion()
	switch {
	case hello == nil:
		return fmt.Errorf("%w: the first packet is not Hello", worker.ErrMalformed)
	case hello.GetSession() == nil:
		w.pool.putIdle(w)
	default:
		w.pool.adopt(w, hello.GetSession())
	}
	return nil
}

func (w *Worker) packet() error {
	m, err := w.receive()
	if err != nil {
		return err
	}
	w.mu.Lock()
	events := w.events
	w.mu.Unlock()
	switch {
	case m.GetMessage() == nil: // of a later version
		return nil
	case m.GetHello() != nil:
		return fmt.Errorf("%w: a second Hello", worker.ErrMalformed)
	case m.GetName() != nil:
		return w.named(m.GetName())
	case events == nil:
		return fmt.Errorf("%w: a packet of a worker without a session", worker.ErrMalformed)
	}
	events.Packet(m)
	return nil
}

// receive reads a packet; none from a worker carries descriptors.
func (w *Worker) receive() (*worker.ToBroker, error) {
	m := new(worker.ToBroker)
	files, err := w.conn.Receive(m)
	worker.CloseAll(files)
	if err == nil && len(files) > 0 {
		err = fmt.Errorf("%w: descriptors that no packet has", worker.ErrMalformed)
	}
	return m, err
}

// openPidfd pins the process: from the socket where the kernel can
// (SO_PEERPIDFD, 6.5), else by its number, which cannot have been used again
// while the process still holds its end of the socket. It is nil where the kernel
// has none; that there is no room for one is an error.
func openPidfd(c *net.UnixConn, pid int) (*os.File, error) {
	const soPeerPidfd = 77
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var failed error
	err = raw.Control(func(s uintptr) { fd, failed = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, soPeerPidfd) })
	if err != nil {
		return nil, err
	}
	if failed == nil {
		unix.CloseOnExec(fd)
	} else if !scarce(failed) {
		fd, failed = unix.PidfdOpen(pid, 0)
	}
	switch {
	case failed == nil:
	case scarce(failed):
		return nil, failed
	default:
		return nil, nil
	}
	// Not by PIDFD_NONBLOCK, which came later than pidfds.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, nil
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// String names the worker for the log.
func (w *Worker) String() string { return fmt.Sprintf("worker %d", w.pid) }
