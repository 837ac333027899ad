// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// numbered are files that can be told apart whatever their descriptors are.
func numbered(t testing.TB, n int) (files []*os.File, inodes []uint64) {
	t.Helper()
	for range n {
		fd, err := unix.MemfdCreate("numbered", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "numbered")
		t.Cleanup(func() { _ = f.Close() })
		files, inodes = append(files, f), append(inodes, inode(t, fd))
	}
	return files, inodes
}

func inode(t rapid.TB, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// send is what a bus does: the descriptors go with the first bytes of their message,
// the rest when there is room.
func send(bus *net.UnixConn, message []byte, files []*os.File) error {
	if len(files) == 0 {
		_, err := bus.Write(message)
		return err
	}
	var rights []int
	for _, f := range files {
		rights = append(rights, int(f.Fd()))
	}
	n, _, err := bus.WriteMsgUnix(message, unix.UnixRights(rights...), nil)
	if err == nil && n < len(message) {
		_, err = bus.Write(message[n:])
	}
	return err
}

// read is what godbus does with a message: it reads its bytes, and has its
// descriptors claimed.
func read(t rapid.TB, s *Stream) (message []byte, inodes []uint64) {
	t.Helper()
	m, err := dbus.DecodeMessage(io.TeeReader(s, (*appendTo)(&message)))
	if err != nil || m.Type != dbus.TypeSignal {
		t.Fatalf("%v, %v", m, err)
	}
	fds := s.Claim()
	for _, fd := range fds {
		inodes = append(inodes, inode(t, fd))
	}
	CloseAll(fds)
	return message, inodes
}

type appendTo []byte

func (a *appendTo) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// Each message has its own descriptors, however many messages are read at once, how
// long they are, which of them are refused, and with how little room.
func TestEachMessageHasItsOwnDescriptors(t *testing.T) {
	files, inodes := numbered(t, 4)
	small := rapid.IntRange(0, 100)
	rapid.Check(t, func(rt *rapid.T) {
		s, bus := pair(t)
		s.o.Descriptors = true
		s.o.Admit = func(_ Header, from Origin) (string, bool) { return "", string(from.Member) != "Refused" }
		room := rapid.SampledFrom([]int{inputSize, 1000, 200, 64}).Draw(rt, "room")
		s.in.buf = make([]byte, room)
		if err := bus.SetWriteBuffer(rapid.SampledFrom([]int{4096, 1 << 18}).Draw(rt, "socket")); err != nil {
			rt.Fatal(err)
		}
		type one struct {
			message []byte
			files   []int
			refused bool
		}
		var all []one
		for i := range rapid.IntRange(1, 12).Draw(rt, "messages") {
			size := rapid.OneOf(small, small, small, small, rapid.IntRange(0, inputSize), rapid.IntRange(maxIncoming-200, maxIncoming)).Draw(rt, fmt.Sprint("size ", i))
			refused := rapid.Bool().Draw(rt, fmt.Sprint("refused ", i))
			with := rapid.SliceOfN(rapid.IntRange(0, len(files)-1), 0, 3).Draw(rt, fmt.Sprint("with ", i))
			message := signalMessage(t, map[bool]string{false: "Taken", true: "Refused"}[refused], strings.Repeat("x", size))
			all = append(all, one{message, with, refused || len(message) > maxIncoming})
		}
		sent := make(chan error, 1)
		go func() {
			for _, m := range all {
				var with []*os.File
				for _, i := range m.files {
					with = append(with, files[i])
				}
				if err := send(bus, m.message, with); err != nil {
					sent <- err
					return
				}
			}
			sent <- bus.Close()
		}()
		for i, m := range all {
			if m.refused {
				continue
			}
			message, got := read(rt, s)
			var want []uint64
			for _, f := range m.files {
				want = append(want, inodes[f])
			}
			if !bytes.Equal(message, m.message) || !slices.Equal(got, want) {
				rt.Fatalf("message %d of %d bytes has %d, and descriptors %v; want %d, %v", i, len(m.message), len(message), got, len(m.message), want)
			}
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			rt.Errorf("after the last message: %v", err)
		}
		if err := <-sent; err != nil {
			rt.Error(err)
		}
		if len(s.early) > 0 || len(s.Claim()) > 0 {
			rt.Errorf("descriptors are left: %v", s.early)
		}
	})
}

// The descriptors of a message for which the kernel has no room are lost. Those of the
// next message do not take their place: they are somebody else's answer.
func TestDescriptorsThatAreLostMakeNoOthersTheirs(t *testing.T) {
	s, bus := pair(t)
	s.o.Descriptors = true
	files, inodes := numbered(t, 3)
	first, second := signalMessage(t, "First", "a"), signalMessage(t, "Second", "b")
	for _, sent := range []struct {
		message []byte
		files   []*os.File
	}{{first, files[:2]}, {second, files[2:]}} {
		if err := send(bus, sent.message, sent.files); err != nil {
			t.Fatal(err)
		}
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	free, err := unix.Dup(0) // the lowest that is free
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(free)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	message, got := read(t, s)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(message, first) || len(got) != 0 {
		t.Errorf("with no room the first message is %q and has %v", message, got)
	}
	if message, got = read(t, s); !bytes.Equal(message, second) || !slices.Equal(got, inodes[2:]) {
		t.Errorf("the second message is %q and has %v, want %v", message, got, inodes[2:])
	}
}

// What has been read is not kept: it may be an answer.
func TestNothingThatWasReadIsKept(t *testing.T) {
	for _, size := range []int{7, inputSize - 300, inputSize, 3 * inputSize} {
		s, bus := pair(t)
		answer := strings.Repeat("hunter2", size/7)
		go func() {
			for range 3 {
				_, _ = bus.Write(signalMessage(t, "Answer", answer))
			}
			_, _ = bus.Write(signalMessage(t, "Next"))
		}()
		buffers := [][]byte{s.in.buf}
		for range 4 {
			read(t, s)
			buffers = append(buffers, s.in.buf)
		}
		_ = bus.Close()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if len(s.in.buf) != inputSize {
			t.Errorf("after %d bytes the buffer has %d", size, len(s.in.buf))
		}
		for _, b := range buffers {
			if i := bytes.Index(b, []byte("hunter2")); i >= 0 {
				t.Errorf("of an answer of %d bytes there is some at %d of a buffer of %d", size, i, len(b))
			}
		}
	}
}

// Nor is what was moved within the buffer to make room.
func TestNothingThatWasMovedIsKept(t *testing.T) {
	s, bus := pair(t)
	long := signalMessage(t, "Long", strings.Repeat("x", inputSize-1000))
	answer := signalMessage(t, "Answer", strings.Repeat("hunter2", 2000/7))
	if _, err := bus.Write(append(long, answer...)); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{long, answer} {
		if got, _ := read(t, s); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came, want %d", len(got), len(want))
		}
	}
	_ = bus.Close()
	if _, err := s.next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if i := bytes.Index(s.in.buf, []byte("hunter2")); i >= 0 {
		t.Errorf("some of the answer is at %d", i)
	}
}

// Descriptors that nobody will claim are closed with the stream.
func TestCloseClosesWhatIsEarly(t *testing.T) {
	s, bus := pair(t)
	s.o.Descriptors = true
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	whole, part := signalMessage(t, "Whole"), signalMessage(t, "Part", "cut off")
	if err := send(bus, whole, nil); err != nil {
		t.Fatal(err)
	}
	if err := send(bus, part[:20], []*os.File{w}); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if message, _ := read(t, s); !bytes.Equal(message, whole) || len(s.early) != 1 {
		t.Fatalf("%q came, and %v", message, s.early)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want the end of the pipe", err)
	}
	late, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.keep(unix.UnixRights(late), 0) // the reader was about to
	if err := unix.Fstat(late, new(unix.Stat_t)); err != unix.EBADF {
		t.Errorf("what came as it was closed is open: %v", err)
	}
}

// What is refused takes no memory.
func TestWhatIsRefusedTakesNoMemory(t *testing.T) {
	s, bus := pair(t)
	refused, calls := 0, 0
	s.o.Admit = func(Header, Origin) (string, bool) { calls++; return "", calls%1000 == 0 }
	flood := bytes.Repeat(signalMessage(t, "Flood", "x"), 1000)
	got := testing.AllocsPerRun(20, func() {
		_, _ = bus.Write(flood)
		for { // until one was admitted
			message, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			if message != nil {
				break
			}
			refused++
		}
	})
	if most := 200.0; got > most { // the trial of the one that is admitted takes some 100
		t.Errorf("1000 messages of which 999 are refused take %v allocations, more than %v", got, most)
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// Of a message that is too long no more is held than what says whose it is.
func TestWhatIsTooLongTakesNoRoom(t *testing.T) {
	s, bus := pair(t)
	refused := 0
	s.o.Refused = func(Header, string, string) {
		if refused++; len(s.in.buf) != inputSize {
			t.Errorf("the buffer has %d bytes", len(s.in.buf))
		}
	}
	go func() {
		_, _ = bus.Write(signalMessage(t, "Long", strings.Repeat("x", 2*maxIncoming)))
		_, _ = bus.Write(signalMessage(t, "Next"))
	}()
	if read(t, s); refused != 1 {
		t.Errorf("%d messages were refused", refused)
	}
}
