// SPDX-License-Identifier: Apache-2.0

package convtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
)

// Broker listens for workers.
type Broker struct {
	Socket string

	t        testing.TB
	listener *net.UnixListener
}

// Listen makes a broker that listens until the test ends.
func Listen(t testing.TB) *Broker {
	t.Helper()
	b := &Broker{t: t, Socket: filepath.Join(t.TempDir(), "broker.sock")}
	b.Return()
	t.Cleanup(b.Leave)
	return b
}

// Leave stops listening; connections there are stay.
func (b *Broker) Leave() { _ = b.listener.Close() }

// Return listens again after Leave.
func (b *Broker) Return() {
	b.t.Helper()
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: b.Socket, Net: "unixpacket"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.listener = listener
}

// Accept waits for a worker and its Hello.
func (b *Broker) Accept() *Peer {
	b.t.Helper()
	if err := b.listener.SetDeadline(time.Now().Add(patience)); err != nil {
		b.t.Fatal(err)
	}
	c, err := b.listener.AcceptUnix()
	if err != nil {
		b.t.Fatalf("no worker came: %v", err)
	}
	raw, err := worker.NewConn(c)
	if err != nil {
		b.t.Fatal(err)
	}
	p := &Peer{Conn: raw, t: b.t, socket: c}
	b.t.Cleanup(p.Leave)
	p.Hello = p.Next().GetHello()
	if p.Hello == nil {
		b.t.Fatal("the first packet is no Hello")
	}
	return p
}

// Peer is a connection from a worker.
type Peer struct {
	Conn  *worker.Conn
	Hello *worker.Hello

	t      testing.TB
	socket *net.UnixConn
}

// Leave closes the connection.
func (p *Peer) Leave() { _ = p.Conn.Close() }

// Receive waits for a packet; it returns the error of the connection.
func (p *Peer) Receive() (*worker.ToBroker, error) {
	p.t.Helper()
	if err := p.socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	m := new(worker.ToBroker)
	files, err := p.Conn.Receive(m)
	if len(files) > 0 {
		worker.CloseAll(files)
		return nil, fmt.Errorf("a worker sent %d descriptors", len(files))
	}
	return m, err
}

// Next waits for a packet.
func (p *Peer) Next() *worker.ToBroker {
	p.t.Helper()
	m, err := p.Receive()
	if err != nil {
		p.t.Fatalf("wait for a packet of the worker: %v", err)
	}
	return m
}

// Expect fails the test unless the next packets are these, as Describe puts
// them.
func (p *Peer) Expect(descriptions ...string) {
	p.t.Helper()
	for _, want := range descriptions {
		if got := Describe(p.Next()); got != want {
			p.t.Fatalf("the worker said %q, not %q", got, want)
		}
	}
}

// Send sends one packet.
func (p *Peer) Send(m *worker.ToWorker, files ...*os.File) {
	p.t.Helper()
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if err := p.Conn.Send(m, fds...); err != nil {
		p.t.Fatalf("send to the worker: %v", err)
	}
}

// Start sends a Start, with the stdio of its command if it has one.
func (p *Peer) Start(s *worker.Start, stdio ...*os.File) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Start{Start: s}}, stdio...)
}

// Resolve asks an idle worker who has a uid.
func (p *Peer) Resolve(uid uint32) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Resolve{Resolve: &worker.Resolve{Uid: uid}}})
}

// Sweep has an idle worker clear away what a dead one left in a user's directory.
func (p *Peer) Sweep(uid uint32) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Sweep{Sweep: &worker.Sweep{Uid: uid}}})
}

// Number sends the number of a prompt.
func (p *Peer) Number(index uint32, number uint64) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Numbered{Numbered: &worker.Numbered{Index: index, Number: number}}})
}

// Answer sends an answer.
func (p *Peer) Answer(index uint32, answer string) {
	p.t.Helper()
	f := Memfd(p.t, answer)
	defer func() { _ = f.Close() }()
	p.Send(AnswerPacket(index), f)
}

// AnswerPacket is an Answer without its descriptor.
func AnswerPacket(index uint32) *worker.ToWorker {
	return &worker.ToWorker{Message: &worker.ToWorker_Answer{Answer: &worker.Answer{Index: index}}}
}

// Cancel cancels a prompt.
func (p *Peer) Cancel(index uint32) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Cancel{Cancel: &worker.Cancel{Index: index}}})
}

// Mirror shows or hides the copy of a prompt for the user's own agents.
func (p *Peer) Mirror(index uint32, shown bool) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Mirror{Mirror: &worker.Mirror{Index: index, Shown: shown}}})
}

// Signal has a signal sent to processes of the session.
func (p *Peer) Signal(target worker.Target, signal syscall.Signal) {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Signal{Signal: &worker.Signal{Target: target, Signal: uint32(signal)}}})
}

// Close ends the session.
func (p *Peer) Close() {
	p.t.Helper()
	p.Send(&worker.ToWorker{Message: &worker.ToWorker_Close{Close: &worker.Close{}}})
}

// SendRaw sends bytes that need not be a packet of the protocol.
func (p *Peer) SendRaw(packet []byte) {
	p.t.Helper()
	if _, err := p.socket.Write(packet); err != nil {
		p.t.Fatal(err)
	}
}

// Memfd returns a sealed memfd with this answer. The caller closes it.
func Memfd(t testing.TB, answer string) *os.File {
	t.Helper()
	s, err := secret.New(len(answer))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	copy(s.Bytes(), answer)
	f, err := s.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Start returns a Start for the user on the service, with what every Start has.
// The changes are applied to it.
func Start(service, user string, changes ...func(*worker.Start)) *worker.Start {
	s := &worker.Start{
		Session: 4711,
		Service: service,
		User:    user,
		Options: &worker.Options{Attempts: 1},
		Owner:   &worker.Owner{Name: ":1.1", Uid: 0, Pid: 1},
	}
	for _, change := range changes {
		change(s)
	}
	return proto.CloneOf(s)
}
