// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

const asks = "auth required {probe} [auth:ask=secret,Password: ] auth:export=A"

// asking starts a session and returns when it asks.
func asking(t testing.TB, dir string) (*convtest.Broker, *convtest.Process, *convtest.Peer) {
	t.Helper()
	broker, process, peer := run(t, dir)
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret Password: ")
	return broker, process, peer
}

func TestABrokerThatComesBackWhileAPromptWaits(t *testing.T) {
	broker, process, peer := asking(t, stack(t, asks))
	peer.Number(0, 815)
	broker.Leave()
	peer.Leave()
	broker.Return()
	peer = broker.Accept()
	if got, want := convtest.DescribeSession(peer.Hello.GetSession()), "session 4711 authenticate, number 815 prompt 0 secret Password: "; got != want {
		t.Errorf("the worker came back with %q, not %q", got, want)
	}
	if peer.Hello.GetVersion() != worker.Version || peer.Hello.GetSession().GetResolved() == nil {
		t.Error("the worker came back without its version or the uid of its user")
	}
	peer.Answer(0, "right")
	said := convtest.Continue(peer)
	wantSaid(t, said, "taken 0", "entering account", "entering credentials", "entering session", "opened [A=right]",
		"entering close-session", "entering delete-credentials", "entering end", "closed 0")
	process.Wait()
}

// What a broker said last before it died has been heard.
func TestABrokerThatComesBackWhileAModuleDelaysTheClose(t *testing.T) {
	dir := stack(t, "auth required {exec} {dir}/wait")
	fifo(t, filepath.Join(dir, "here"))
	fifo(t, filepath.Join(dir, "go"))
	script(t, filepath.Join(dir, "wait"), "echo > "+dir+"/here; read -r line < "+dir+"/go; exit 0")
	broker, process, peer := run(t, dir)
	peer.Start(convtest.Start("test", "root"))
	lines(t, filepath.Join(dir, "here")) // waits until the module works
	peer.Close()
	peer.Leave()
	peer = broker.Accept()
	if s := peer.Hello.GetSession(); !s.GetClosing() || s.GetPhase() != worker.Phase_PHASE_AUTHENTICATE {
		t.Errorf("the worker came back in phase %s, and closing: %t", s.GetPhase().Word(), s.GetClosing())
	}
	write(t, filepath.Join(dir, "go"), "\n")
	wantSaid(t, convtest.Continue(peer), "entering end", "closed 0 closed before it opened")
	process.Wait()
}

func TestABrokerThatComesBackWhileTheSessionIsOpen(t *testing.T) {
	broker, process, peer := run(t, stack(t))
	start := convtest.Start("test", "root")
	peer.Start(start)
	peer.Expect(everyPhase[:7]...)
	peer.Leave()
	peer = broker.Accept()
	if got, want := convtest.DescribeSession(peer.Hello.GetSession()), "session 4711 open, opened"; got != want {
		t.Errorf("the worker came back with %q, not %q", got, want)
	}
	if !proto.Equal(peer.Hello.GetSession().GetStart(), start) {
		t.Error("the worker came back with another Start")
	}
	peer.Close()
	peer.Expect(everyPhase[7:]...)
	process.Wait()
}

func TestASessionThatNobodyLooksAfterIsClosed(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) { abandoned(t, false) })
	// As with systemd's socket of a broker that does not start.
	t.Run("nobody accepts", func(t *testing.T) { abandoned(t, true) })
}

func abandoned(t *testing.T, listens bool) {
	dir := stack(t, "session required {probe} close:log={dir}/log")
	fifo := filepath.Join(dir, "log") // so that the test hears of it when it happens
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0) // with a deadline
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if err := log.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	broker := convtest.Listen(t)
	process := convtest.Run(t, nil, "--idle", "--socket", broker.Socket, "--pam-dir", dir, "--broker-timeout", "100ms")
	peer := broker.Accept()
	peer.Start(convtest.Start("test", "root"))
	peer.Expect(everyPhase[:7]...)
	broker.Leave()
	if listens {
		broker.Return()
	}
	peer.Leave()
	if line, err := bufio.NewReader(log).ReadString('\n'); line != "close\n" {
		t.Errorf("the module wrote %q, %v", line, err)
	}
	if !listens {
		broker.Return()
	}
	convtest.Continue(broker.Accept())
	process.Wait()
}

func TestASessionThatLingersIsNotAbandoned(t *testing.T) {
	for _, linger := range []bool{true, false} {
		s := newSession(quiet())
		if err := s.begin(convtest.Start("test", "root", options(func(o *worker.Options) { o.Linger = linger }))); err != nil {
			t.Fatal(err)
		}
		s.abandon(0)
		if s.isClosed() == linger {
			t.Errorf("lingers: %v; closed: %v", linger, s.isClosed())
		}
		s.end(pam.Error(0), "") // so that the watchdog of a close finds nothing to do
	}
}

func TestASessionThatEndsWhileTheBrokerIsAway(t *testing.T) {
	broker, process, peer := asking(t, stack(t, asks))
	broker.Leave()
	peer.Leave()
	process.Signal(unix.SIGTERM)
	broker.Return()
	peer = broker.Accept()
	// It may be back before the session has ended; then it says so on the wire.
	got := convtest.DescribeSession(peer.Hello.GetSession())
	for said := range continued(peer) {
		got = said
	}
	if !strings.HasSuffix(got, "closed 0 closed before it opened") {
		t.Errorf("the worker came back with %q", got)
	}
	if end := process.Wait(); end != "exit status 0" {
		t.Errorf("the worker ended with %s", end)
	}
}

// continued yields what a worker says until it hangs up.
func continued(peer *convtest.Peer) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, said := range convtest.Continue(peer) {
			if !yield(said) {
				return
			}
		}
	}
}

func TestAnIdleWorkerComesBackToo(t *testing.T) {
	broker, _, peer := run(t, stack(t))
	for range 3 {
		peer.Leave()
		peer = broker.Accept()
		if peer.Hello.GetSession() != nil {
			t.Error("an idle worker says that it has a session")
		}
	}
	wantSaid(t, convtest.Play(peer, convtest.Start("test", "root")), everyPhase...)
}

func TestPacketsThatBreakTheProtocol(t *testing.T) {
	number := &worker.ToWorker{Message: &worker.ToWorker_Numbered{Numbered: &worker.Numbered{Number: 1}}}
	for _, test := range []struct {
		name string
		send func(*testing.T, *convtest.Peer)
	}{
		{"what is not protobuf", func(t *testing.T, p *convtest.Peer) { p.SendRaw([]byte("\xff\xff\xff\xff")) }},
		{"a packet that is too large", func(t *testing.T, p *convtest.Peer) { p.SendRaw(make([]byte, worker.MaxPacket+1)) }},
		{"a second Start", func(t *testing.T, p *convtest.Peer) { p.Start(convtest.Start("test", "root")) }},
		{"a prompt that is numbered 0", func(t *testing.T, p *convtest.Peer) { p.Number(0, 0) }},
		{"an Answer without a descriptor", func(t *testing.T, p *convtest.Peer) { p.Send(convtest.AnswerPacket(0)) }},
		{"an Answer with two descriptors", func(t *testing.T, p *convtest.Peer) {
			p.Send(convtest.AnswerPacket(0), memfd(t, "a"), memfd(t, "b"))
		}},
		{"a packet with a descriptor that none belongs to", func(t *testing.T, p *convtest.Peer) { p.Send(number, memfd(t, "a")) }},
	} {
		t.Run(test.name+" ends the connection, not the session", func(t *testing.T) {
			broker, process, peer := asking(t, stack(t, asks))
			before := descriptors(t, process.Pid)
			test.send(t, peer)
			if said := convtest.Continue(peer); len(said) > 0 {
				t.Errorf("the worker said %q", said)
			}
			peer = broker.Accept()
			if after := descriptors(t, process.Pid); after != before {
				t.Errorf("the worker has %d descriptors, and had %d", after, before)
			}
			peer.Answer(0, "x")
			peer.Expect("taken 0", "entering account")
		})
	}
}

func TestPacketsForASessionThatIsNotThere(t *testing.T) {
	for _, test := range []struct {
		name string
		send func(*convtest.Peer)
	}{
		{"Close", func(p *convtest.Peer) { p.Close() }},
		{"Cancel", func(p *convtest.Peer) { p.Cancel(0) }},
		{"Answer", func(p *convtest.Peer) { p.Answer(0, "x") }},
		{"Numbered", func(p *convtest.Peer) { p.Number(0, 1) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			broker, _, peer := run(t, stack(t))
			test.send(peer)
			if said := convtest.Continue(peer); len(said) > 0 {
				t.Errorf("the worker said %q", said)
			}
			if peer = broker.Accept(); peer.Hello.GetSession() != nil {
				t.Error("an idle worker says that it has a session")
			}
		})
	}
}

// descriptors counts the open descriptors of a process.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestPacketsOfALaterVersionAreSkipped(t *testing.T) {
	_, process, peer := asking(t, stack(t, asks))
	before := descriptors(t, process.Pid)
	later := new(worker.ToWorker)
	later.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 1, 'x'})
	for range 50 {
		peer.Send(later, memfd(t, "a"))
	}
	peer.Answer(1, "x")
	peer.Expect("taken 1 NoSuchPrompt")
	// The descriptor of the Answer itself may be about to be closed.
	if after := descriptors(t, process.Pid); after > before+1 {
		t.Errorf("the worker has %d descriptors, and had %d", after, before)
	}
	peer.Answer(0, "x")
	peer.Expect("taken 0", "entering account")
}

// A module that says more than the socket holds waits until the broker reads,
// and nothing is lost.
func TestABrokerThatReadsLate(t *testing.T) {
	talks := "auth required {probe}" + strings.Repeat(" auth:info=repeat:100000", 20)
	_, process, peer := run(t, stack(t, talks, talks, talks))
	peer.Start(convtest.Start("test", "root"))
	said := convtest.Continue(peer)
	texts := 0
	for _, packet := range said {
		if strings.HasPrefix(packet, "info ") {
			texts++
		}
	}
	if texts != 60 || said[len(said)-1] != "closed 0" {
		t.Errorf("%d of 60 texts were heard, and then %q", texts, said[len(said)-1])
	}
	process.Wait()
}

// A broker that goes away while a module waits for it to read ends the wait.
func TestABrokerThatLeavesWithoutReading(t *testing.T) {
	talks := "auth required {probe}" + strings.Repeat(" auth:info=repeat:100000", 20)
	broker, process, peer := run(t, stack(t, talks, talks, talks))
	peer.Start(convtest.Start("test", "root"))
	peer.Leave()
	peer = broker.Accept()
	if peer.Hello.GetSession().GetOpened() != nil { // else Continue closes it when it opens
		peer.Close()
	}
	said := convtest.Continue(peer)
	if said[len(said)-1] != "closed 0" {
		t.Errorf("the worker ended with %q", said[len(said)-1])
	}
	process.Wait()
}

// TestASocketOfSomebodyElse: who listens there decides what root runs.
func TestASocketOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can listen as somebody else")
	}
	socket := filepath.Join(t.TempDir(), "broker.sock")
	listener := listenAs(t, socket, 65534)
	convtest.Run(t, nil, "--idle", "--socket", socket)
	for range 2 { // it tries again, and says nothing again
		c, err := listener.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 100)); n > 0 {
			t.Errorf("the worker said %d bytes to a broker of another user (%v)", n, err)
		}
		_ = c.Close()
	}
}

// listenAs listens with the credentials of another user, as the kernel notes
// them then for SO_PEERCRED.
func listenAs(t testing.TB, socket string, uid int) *net.UnixListener {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The raw call is for this thread alone. The saved uid remains, to return to.
	become := func(uid int) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	become(uid)
	err = unix.Listen(fd, 10)
	become(0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), socket)
	defer func() { _ = f.Close() }()
	listener, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*net.UnixListener)
}
