// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// piped is a log that is written to a pipe.
func piped(t *testing.T) (log *slog.Logger, read *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = read.Close(), write.Close() })
	_ = write.Fd() // which makes it one that blocks, as standard error is
	lost := func(lines int) { fmt.Fprintf(write, "msg=%q lines=%d\n", tooSlow, lines) }
	return slog.New(slog.NewTextHandler(writer{&queue{lost: lost}, write}, nil)), read
}

func TestALogThatNobodyReadsHoldsNobodyUp(t *testing.T) {
	log, read := piped(t)
	const lines = 15000 // more than is kept
	text, began := strings.Repeat("x", 64), time.Now()
	for i := range lines {
		log.Info(text, "line", i)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("%d lines took %v", lines, took)
	}
	// What waits comes, in its order, and then how much does not.
	scanner, next := bufio.NewScanner(read), 0
	for ; scanner.Scan(); next++ {
		if !strings.HasSuffix(scanner.Text(), fmt.Sprintf(" line=%d", next)) {
			break
		}
		if next == 100 { // there is room again soon
			go func() { log.Info("more") }()
		}
	}
	if want := fmt.Sprintf("msg=%q lines=%d", tooSlow, lines-next); scanner.Text() != want {
		t.Errorf("after %d lines comes %q, and not %q", next, scanner.Text(), want)
	}
	if !scanner.Scan() || !strings.HasSuffix(scanner.Text(), "msg=more") {
		t.Errorf("then comes %q", scanner.Text())
	}
}

// What was logged has been written when the call returns, as long as somebody reads.
func TestALogThatIsReadIsWrittenAtOnce(t *testing.T) {
	log, read := piped(t)
	for i := range 100 {
		log.Info("x", "line", i)
		n, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(read, int64(n)))
		if err != nil || !strings.HasSuffix(string(got), fmt.Sprintf("line=%d\n", i)) {
			t.Fatalf("line %d: %q, %v", i, got, err)
		}
	}
}

// A journal whose queue is full of what others have sent tells nobody when there is
// room again.
func TestAJournalThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listen := func() *net.UnixConn {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	journal := listen()
	other, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(other) })
	for err == nil {
		err = unix.Sendto(other, []byte("MESSAGE=theirs\n"), 0, &unix.SockaddrUnix{Name: path})
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	s := &sender{path: path, fd: -1}
	q := new(queue)
	t.Cleanup(func() { q.put(0, func() { _ = unix.Close(s.fd) }) })
	log := slog.New(newHandler("test", q, slog.NewTextHandler(os.Stderr, nil), s.send))
	began := time.Now()
	for i := range 100 {
		log.Info("ours", "line", i)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("100 entries took %v", took)
	}
	buffer := make([]byte, 1<<16)
	for i := 0; i < 100; {
		if err := journal.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := journal.Read(buffer)
		if err != nil {
			t.Fatalf("entry %d does not come: %v", i, err)
		}
		if e := decode(buffer[:n]); e.message != "theirs" {
			if e.message != fmt.Sprintf("ours line=%d", i) {
				t.Fatalf("after entry %d comes %q", i, e.message)
			}
			i++
		}
	}
}
