// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/tests/system"
)

// fakes is a broker whose workers are played by the test, since a real one
// breaks no protocol.
type fakes struct {
	*bench
	socket string
	first  uint64 // the number of the witness; the last broker's are below
	taken  uint64 // sessions that came with their workers
}

func startFakes(t *testing.T) *fakes {
	t.Helper()
	// The pool is a program that starts no worker.
	pool := filepath.Join(t.TempDir(), "pool")
	if err := os.WriteFile(pool, []byte("#!/bin/sh\nexec tail -f /dev/null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fakes{bench: &bench{}}
	f.System = system.Start(t, system.Options{BrokerArgs: []string{"--worker", pool}})
	f.conn = f.Conn(t)
	f.socket = filepath.Join(f.Dir, "workers", "broker.sock")
	// The witness is a session of a worker that keeps to the protocol.
	good := f.dial(t)
	send(t, good, hello())
	path := f.begin(t, good)
	send(t, good, &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{}}})
	f.wait(t, path.path, "open")
	f.first = path.id
	t.Cleanup(func() {
		if state, _, text := f.wait(t, path.path, "open"); state != api.StateOpen {
			t.Errorf("the witness is %s: %s", state, text)
		}
		end(t, good)
	})
	return f
}

// line is a connection to the broker, also for bytes that worker.Conn would
// not send.
type line struct {
	*worker.Conn
	raw *net.UnixConn
}

func (f *fakes) dial(t *testing.T) *line {
	t.Helper()
	raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: f.socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := worker.NewConn(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &line{c, raw}
}

func send(t *testing.T, c *line, m *worker.ToBroker) {
	t.Helper()
	if err := c.Send(m); err != nil {
		t.Fatal(err)
	}
}

func hello() *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: worker.Version}}}
}

func entering(p worker.Phase) *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Entering{Entering: &worker.Entering{Phase: p}}}
}

func prompting(index uint32, style worker.Style) *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Prompt{Prompt: &worker.Prompt{
		Index: index, Style: style, Text: []byte("?"), Phase: worker.Phase_PHASE_AUTHENTICATE,
	}}}
}

// end ends a session as a worker does, so that the broker has nothing to wait
// for when it stops.
func end(t *testing.T, c *line) {
	t.Helper()
	send(t, c, &worker.ToBroker{Message: &worker.ToBroker_Closed{Closed: &worker.Closed{}}})
}

type opened struct {
	id   uint64
	path dbus.ObjectPath
	err  error
}

// begin opens a session, which the worker takes.
func (f *fakes) begin(t *testing.T, c *line) opened {
	t.Helper()
	done := f.openLater()
	receive(t, c)
	send(t, c, entering(worker.Phase_PHASE_START))
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o
}

func (f *fakes) openLater() <-chan opened { return f.openWith(linger) }

func (f *fakes) openWith(with options) <-chan opened {
	done := make(chan opened, 1)
	go func() {
		var o opened
		o.err = manager(f.conn, "OpenSession", "any", "root", with).Store(&o.id, &o.path)
		done <- o
	}()
	return done
}

func receive(t *testing.T, c *line) *worker.ToWorker {
	t.Helper()
	m := new(worker.ToWorker)
	files, err := c.Receive(m)
	worker.CloseAll(files)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a worker may not do ends its session, by name, and no other.
func TestAWorkerBreaksTheProtocol(t *testing.T) {
	f := startFakes(t)
	type step = func(*testing.T, *line)
	sends := func(packets ...*worker.ToBroker) step {
		return func(t *testing.T, c *line) {
			for _, m := range packets {
				_ = c.Send(m) // the broker may have closed the connection at the one before
			}
		}
	}
	raw := func(packet string, fds ...int) step {
		return func(t *testing.T, c *line) { sendRaw(t, c, packet, fds...) }
	}
	authenticate := entering(worker.Phase_PHASE_AUTHENTICATE)
	for _, c := range []struct {
		name  string
		after *worker.ToBroker // sent before, and right
		do    step
	}{
		{"a packet that is not protobuf", nil, raw("\xff\xff\xff\xff")},
		{"a packet that is too long", nil, raw(strings.Repeat("x", worker.MaxPacket+1))},
		{"a descriptor", nil, raw("\x12\x00", 0)},
		{"four descriptors", nil, raw("\x12\x00", 0, 0, 0, 0)},
		{"a second Hello", nil, sends(hello())},
		{"a phase that is none", nil, sends(entering(3))},
		{"a phase backwards", entering(worker.Phase_PHASE_ACCOUNT), sends(authenticate)},
		{"the same phase again", authenticate, sends(authenticate)},
		{"the phase open by Entering", nil, sends(entering(worker.Phase_PHASE_OPEN))},
		{"a question of a style that asks nothing", authenticate, sends(prompting(0, worker.Style_STYLE_INFO))},
		{"a question of a style that is none", authenticate, sends(prompting(0, 42))},
		{"two questions at once", authenticate, sends(prompting(0, worker.Style_STYLE_SECRET), prompting(1, worker.Style_STYLE_SECRET))},
		{"a question withdrawn that was not open", authenticate, sends(&worker.ToBroker{Message: &worker.ToBroker_Withdrawn{
			Withdrawn: &worker.Withdrawn{Outcome: worker.Outcome_OUTCOME_EXPIRED}}})},
		{"a withdrawal without a reason", authenticate, sends(prompting(0, worker.Style_STYLE_SECRET), &worker.ToBroker{Message: &worker.ToBroker_Withdrawn{
			Withdrawn: &worker.Withdrawn{}}})},
		{"open with a question open", authenticate, sends(prompting(0, worker.Style_STYLE_SECRET), &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{}}})},
		{"open twice", nil, sends(&worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{}}}, &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{}}})},
		{"an environment that is too long", nil, sends(&worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{
			Environment: [][]byte{make([]byte, worker.MaxEnvironment)}}}})},
		{"a text that is too long", authenticate, sends(&worker.ToBroker{Message: &worker.ToBroker_Text{Text: &worker.Message{
			Style: worker.Style_STYLE_INFO, Text: make([]byte, worker.MaxText+1)}}})},
		{"a failure without a name", nil, sends(&worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: &worker.Failed{}}})},
		{"an end of the connection", nil, func(_ *testing.T, c *line) { _ = c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := f.dial(t)
			send(t, conn, hello())
			o := f.begin(t, conn)
			if c.after != nil {
				send(t, conn, c.after)
			}
			c.do(t, conn)
			state, _, text := f.wait(t, o.path, "closed")
			if state != api.StateFailed || !strings.HasPrefix(text, "WorkerFailed: ") {
				t.Errorf("the session is %s: %q", state, text)
			}
		})
	}
}

// A worker that breaks the protocol before it took a session fails
// OpenSession, or is passed over for the next.
func TestAnIdleWorkerBreaksTheProtocol(t *testing.T) {
	f := startFakes(t)
	for _, c := range []struct {
		name   string
		packet *worker.ToBroker
	}{
		{"something else than Hello first", entering(worker.Phase_PHASE_START)},
		{"a Hello without a version", &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{}}}},
		{"a session without a start", &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: 1, Session: &worker.Session{}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := f.dial(t)
			send(t, bad, c.packet)
			m := new(worker.ToWorker)
			if _, err := bad.Receive(m); err == nil {
				t.Fatal("the broker keeps the connection")
			}
		})
	}
	t.Run("a packet while idle, and the next worker has the session", func(t *testing.T) {
		bad, good := f.dial(t), f.dial(t)
		send(t, bad, hello())
		send(t, bad, entering(worker.Phase_PHASE_START))
		if _, err := bad.Receive(new(worker.ToWorker)); err == nil {
			t.Fatal("the broker keeps the connection")
		}
		send(t, good, hello())
		f.begin(t, good)
		end(t, good)
	})
	t.Run("a session begun with something else than Entering", func(t *testing.T) {
		bad := f.dial(t)
		send(t, bad, hello())
		done := f.openLater()
		receive(t, bad)
		send(t, bad, prompting(0, worker.Style_STYLE_SECRET))
		want(t, (<-done).err, "WorkerFailed", "began with something else")
	})
	t.Run("a session begun with a later phase", func(t *testing.T) {
		bad := f.dial(t)
		send(t, bad, hello())
		done := f.openLater()
		receive(t, bad)
		send(t, bad, entering(worker.Phase_PHASE_AUTHENTICATE))
		want(t, (<-done).err, "WorkerFailed", "from phase start to authenticate")
	})
	t.Run("a failure in place of Entering is the error of OpenSession", func(t *testing.T) {
		bad := f.dial(t)
		send(t, bad, hello())
		done := f.openLater()
		receive(t, bad)
		send(t, bad, &worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: &worker.Failed{Error: "InvalidArgument", Text: []byte("no \xff such")}}})
		want(t, (<-done).err, "InvalidArgument", "no \uFFFD such")
	})
}

// An answer that the worker refuses with an error of no name, one that nobody
// gave, and one that is taken after the question has ended.
func TestAWorkerTalksOfAnswersThatThereAreNot(t *testing.T) {
	f := startFakes(t)
	conn := f.dial(t)
	send(t, conn, hello())
	o := f.begin(t, conn)
	send(t, conn, &worker.ToBroker{Message: &worker.ToBroker_Taken{Taken: &worker.Taken{Index: 7}}})
	send(t, conn, entering(worker.Phase_PHASE_AUTHENTICATE))
	send(t, conn, prompting(0, worker.Style_STYLE_SECRET))
	number := f.prompt(t, o.path, 0)
	if got := receive(t, conn).GetNumbered(); got.GetNumber() != number || got.GetIndex() != 0 {
		t.Fatalf("the worker was told %d of prompt %d", got.GetNumber(), number)
	}
	answered := make(chan error, 1)
	go func() { answered <- manager(f.conn, "AnswerPrompt", number, "x").Err }()
	receive(t, conn)
	send(t, conn, &worker.ToBroker{Message: &worker.ToBroker_Taken{Taken: &worker.Taken{Error: "NoSuchName"}}})
	want(t, <-answered, "NoSuchPrompt", "has ended")
	if state, _, text := f.wait(t, o.path, "closed"); state != api.StateFailed || !strings.Contains(text, "an error of no name") {
		t.Errorf("the session is %s: %q", state, text)
	}
}

// A lost worker that comes back, since it lives, is told to close.
func TestALostWorkerComesBack(t *testing.T) {
	f := startFakes(t)
	conn := f.dial(t)
	send(t, conn, hello())
	done := f.openLater()
	begun := receive(t, conn).GetStart()
	send(t, conn, entering(worker.Phase_PHASE_START))
	o := <-done
	_ = conn.Close()
	if state, _, _ := f.wait(t, o.path, "closed"); state != api.StateFailed {
		t.Fatalf("the session is %s", state)
	}
	again := f.dial(t)
	send(t, again, &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: 1, Session: &worker.Session{
		Start: begun, Phase: worker.Phase_PHASE_OPEN,
	}}}})
	if receive(t, again).GetClose() == nil {
		t.Error("it was told something else than Close")
	}
}

// A worker that comes back with a number that no broker can have given it: nobody
// else's numbers depend on it.
func TestAWorkerComesWithANumberOfItsOwn(t *testing.T) {
	f := startFakes(t)
	start := func(session uint64) *worker.Start {
		return &worker.Start{Session: session, Service: "any", User: "root", Owner: &worker.Owner{}, Options: &worker.Options{Attempts: 1, Linger: true}}
	}
	asks := prompting(0, worker.Style_STYLE_SECRET).GetPrompt()
	for _, far := range []uint64{f.first + 1<<30, 1 << 63, ^uint64(0)} {
		asks.Number = far
		for name, s := range map[string]*worker.Session{
			"of its session": {Start: start(far), Phase: worker.Phase_PHASE_OPEN},
			"of its prompt":  {Start: start(f.first - 1), Phase: worker.Phase_PHASE_AUTHENTICATE, Prompt: asks},
		} {
			bad := f.dial(t)
			if err := bad.raw.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			send(t, bad, &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: 1, Session: s}}})
			if receive(t, bad).GetClose() == nil {
				t.Errorf("with a number %s of %d it was told something else than Close", name, far)
			}
		}
	}
	good := f.dial(t)
	send(t, good, hello())
	if o := f.begin(t, good); o.id <= f.first || o.id > f.first+1<<30 {
		t.Errorf("the next session is %d, the last one was %d", o.id, f.first)
	}
	end(t, good)
}

// sendRaw sends bytes that worker.Conn would not.
func sendRaw(t *testing.T, c *line, packet string, fds ...int) {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.raw.WriteMsgUnix([]byte(packet), oob, nil); err != nil {
		t.Fatal(err)
	}
}

// An answer that comes as the worker cancels its question and ends: whoever
// answers hears what became of the question, not that a pipe was broken.
func TestAnAnswerAsTheWorkerEnds(t *testing.T) {
	f := startFakes(t)
	for range 40 {
		conn := f.dial(t)
		send(t, conn, hello())
		o := f.begin(t, conn)
		send(t, conn, entering(worker.Phase_PHASE_AUTHENTICATE))
		send(t, conn, prompting(0, worker.Style_STYLE_SECRET))
		number := f.prompt(t, o.path, 0)
		answered := make(chan error, 1)
		go func() { answered <- manager(f.conn, "AnswerPrompt", number, "x").Err }()
		send(t, conn, &worker.ToBroker{Message: &worker.ToBroker_Withdrawn{Withdrawn: &worker.Withdrawn{Outcome: worker.Outcome_OUTCOME_CANCELLED}}})
		send(t, conn, &worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: &worker.Failed{Error: "Cancelled", Text: []byte("a question was cancelled")}}})
		_ = conn.Close()
		want(t, <-answered, "Cancelled", "was cancelled")
		if state, _, text := f.wait(t, o.path, "closed"); state != api.StateFailed || text != "Cancelled: a question was cancelled" {
			t.Fatalf("the session is %s: %q", state, text)
		}
	}
}

// The same for Close.
func TestAClosingAsTheWorkerEnds(t *testing.T) {
	f := startFakes(t)
	for range 40 {
		conn := f.dial(t)
		send(t, conn, hello())
		o := f.begin(t, conn)
		closed := make(chan error, 1)
		go func() { closed <- session(f.conn, o.path, "Close").Err }()
		send(t, conn, &worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: &worker.Failed{Error: "MaxTries", Text: []byte("enough")}}})
		_ = conn.Close()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if state, _, text := f.wait(t, o.path, "closed"); state != api.StateFailed || text != "MaxTries: enough" {
			t.Fatalf("the session is %s: %q", state, text)
		}
	}
}
