// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair connects two ends through a listening socket, as broker and worker do.
func pair(t testing.TB) (broker, worker *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	worker, err = Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	broker, err = NewConn(accepted)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close(); _ = worker.Close() })
	return broker, worker
}

func closePacket() *ToWorker { return &ToWorker{Message: &ToWorker_Close{Close: &Close{}}} }

func text(n int) *ToBroker {
	return &ToBroker{Message: &ToBroker_Text{Text: &Message{Style: Style_STYLE_INFO, Text: make([]byte, n)}}}
}

// file opens something that a packet can carry.
func file(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// descriptors counts the open descriptors of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNoRoomForADescriptor: the packet comes, and the connection goes on.
func TestNoRoomForADescriptor(t *testing.T) {
	broker, worker := pair(t)
	answer := &ToWorker{Message: &ToWorker_Answer{Answer: &Answer{Index: 7}}}
	for range 2 {
		if err := broker.Send(answer, int(file(t).Fd())); err != nil {
			t.Fatal(err)
		}
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	got := new(ToWorker)
	files, err := worker.Receive(got)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrNoDescriptor) || len(files) != 0 || got.GetAnswer().GetIndex() != 7 {
		t.Errorf("it came with %d descriptors, %v, and is an answer to %d", len(files), err, got.GetAnswer().GetIndex())
	}
	files, err = worker.Receive(got)
	if err != nil || len(files) != 1 {
		t.Errorf("the next one came with %d descriptors: %v", len(files), err)
	}
	CloseAll(files)
}

func TestDescriptorsRideAlong(t *testing.T) {
	broker, worker := pair(t)
	for n := range MaxFDs + 1 {
		var fds []int
		for range n {
			fds = append(fds, int(file(t).Fd()))
		}
		if err := broker.Send(closePacket(), fds...); err != nil {
			t.Fatal(err)
		}
		m := new(ToWorker)
		files, err := worker.Receive(m)
		if err != nil || len(files) != n || m.GetClose() == nil {
			t.Errorf("%d descriptors came of %d (%v)", len(files), n, err)
		}
		for _, f := range files {
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Error("a received descriptor is inherited by what a module starts")
			}
		}
		CloseAll(files)
	}
}

func TestTooManyDescriptors(t *testing.T) {
	broker, worker := pair(t)
	fd := int(file(t).Fd())
	if err := broker.Send(closePacket(), fd, fd, fd, fd); !errors.Is(err, ErrMalformed) {
		t.Errorf("four descriptors were sent (%v)", err)
	}
	packet, err := proto.Marshal(closePacket())
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	for _, n := range []int{4, 5, 100} {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = fd
		}
		if _, _, err := broker.c.WriteMsgUnix(packet, unix.UnixRights(fds...), nil); err != nil {
			t.Fatal(err)
		}
		files, err := worker.Receive(new(ToWorker))
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%d descriptors were taken (%v)", n, err)
		}
		CloseAll(files)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, and %d were", after, before)
	}
}

func TestPacketsThatAreNone(t *testing.T) {
	wrongWay, err := proto.Marshal(&ToBroker{Message: &ToBroker_Exited{Exited: &Exited{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		packet []byte
	}{
		{"what is not protobuf", []byte("\xff\xff\xff")},
		{"a packet that ends too early", []byte{1<<3 | 2, 100, 0}},
		{"a packet that is too large", make([]byte, MaxPacket+1)},
		{"a packet that is far too large", make([]byte, MaxPacket+5000)},
		{"a field that is out of bounds", []byte{2<<3 | 2, 0}}, // numbered 0
	} {
		t.Run(test.name, func(t *testing.T) {
			broker, worker := pair(t)
			if _, err := broker.c.Write(test.packet); err != nil {
				t.Fatal(err)
			}
			if _, err := worker.Receive(new(ToWorker)); !errors.Is(err, ErrMalformed) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	t.Run("a packet of the other direction is unknown", func(t *testing.T) {
		m := new(ToWorker)
		if err := Decode(wrongWay, m); err != nil || m.GetMessage() != nil {
			t.Errorf("it is %T (%v)", m.GetMessage(), err)
		}
	})
	t.Run("an empty packet is the end", func(t *testing.T) {
		broker, worker := pair(t)
		if err := unix.Send(fdOf(t, broker), nil, unix.MSG_NOSIGNAL); err != nil {
			t.Fatal(err)
		}
		if _, err := worker.Receive(new(ToWorker)); err != io.EOF {
			t.Errorf("the error is %v", err)
		}
	})
}

func fdOf(t testing.TB, c *Conn) (fd int) {
	t.Helper()
	if err := c.raw.Control(func(f uintptr) { fd = int(f) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestTheLargestPacket(t *testing.T) {
	broker, worker := pair(t)
	p := &Prompt{Style: Style_STYLE_SECRET, Phase: Phase_PHASE_START, Text: make([]byte, MaxText), Binary: make([]byte, MaxBinary)}
	p.Messages = []*Message{{Style: Style_STYLE_INFO, Text: make([]byte, MaxMessagesSize)}}
	for range MaxChoices / 2 {
		p.Choices = append(p.Choices, string(make([]byte, MaxString-2)))
	}
	m := &ToBroker{Message: &ToBroker_Prompt{Prompt: p}}
	if size := proto.Size(m); size < MaxPacket*9/10 || size > MaxPacket {
		t.Fatalf("the packet of this test has %d bytes", size)
	}
	if err := worker.Send(m); err != nil {
		t.Fatal(err)
	}
	got := new(ToBroker)
	if _, err := broker.Receive(got); err != nil || !proto.Equal(got, m) {
		t.Errorf("the packet did not arrive as it was sent (%v)", err)
	}
	p.Choices = append(p.Choices, make([]string, MaxChoices)...)
	for i := range p.Choices {
		p.Choices[i] = string(make([]byte, MaxString))
	}
	if err := worker.Send(m); !errors.Is(err, ErrMalformed) {
		t.Errorf("a packet of %d bytes was sent (%v)", proto.Size(m), err)
	}
}

func TestTheOtherSideDoesNotRead(t *testing.T) {
	broker, worker := pair(t)
	m, sent := text(MaxText), 0
	for ; sent < 1000; sent++ {
		if err := worker.Send(m); errors.Is(err, ErrBusy) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if sent == 1000 {
		t.Fatal("a socket that nobody reads took 1000 packets")
	}
	waited := make(chan error)
	go func() { waited <- worker.SendWait(m) }()
	for range sent + 1 {
		if _, err := broker.Receive(new(ToBroker)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestTheOtherSideIsGone(t *testing.T) {
	broker, worker := pair(t)
	_ = broker.Close()
	if _, err := worker.Receive(new(ToWorker)); err != io.EOF {
		t.Errorf("the error of Receive is %v", err)
	}
	if err := worker.Send(text(1)); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the error of Send is %v", err)
	}
	_ = worker.Close()
	if _, err := worker.Receive(new(ToWorker)); err != io.EOF {
		t.Errorf("the error of Receive on a closed connection is %v", err)
	}
}

// TestTheLastPacketIsNotLost: a worker that ends while packets for it are on
// their way resets the connection, and the kernel says so before it hands out
// what the worker sent last.
func TestTheLastPacketIsNotLost(t *testing.T) {
	broker, worker := pair(t)
	if err := broker.Send(closePacket()); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if err := worker.Send(text(n)); err != nil {
			t.Fatal(err)
		}
	}
	_ = worker.Close()
	for n := range 2 {
		m := new(ToBroker)
		if _, err := broker.Receive(m); err != nil || len(m.GetText().GetText()) != n {
			t.Errorf("the packet %d is lost: %v", n, err)
		}
	}
	if _, err := broker.Receive(new(ToBroker)); err != io.EOF {
		t.Errorf("the error is %v", err)
	}
}

func TestPeer(t *testing.T) {
	for _, c := range func() []*Conn { a, b := pair(t); return []*Conn{a, b} }() {
		if pid, uid := c.Peer(); pid != os.Getpid() || int(uid) != os.Geteuid() {
			t.Errorf("the other side is process %d of uid %d", pid, uid)
		}
	}
}

func TestDialWithoutABroker(t *testing.T) {
	if _, err := Dial(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}
