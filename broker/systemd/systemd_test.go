// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listening is the variable by which a test starts this binary again, as the
// program that a service manager passes sockets to.
const listening = "PAMPROMPT_TEST_LISTENING"

func TestMain(m *testing.M) {
	if os.Getenv(listening) == "" {
		os.Exit(m.Run())
	}
	_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	l, err := Listener()
	switch {
	case err != nil:
		_, _ = os.Stdout.WriteString(err.Error())
	case l == nil:
		_, _ = os.Stdout.WriteString("nothing")
	default:
		_, _ = os.Stdout.WriteString("listening on " + filepath.Base(l.Addr().String()))
		_ = l.Close()
	}
}

func TestTheSocketOfTheServiceManagerIsTaken(t *testing.T) {
	packet := listen(t, "unixpacket")
	stream := listen(t, "unix")
	for _, c := range []struct {
		name  string
		files []*os.File
		says  string
	}{
		{"no socket", nil, "nothing"},
		{"the socket for the workers", []*os.File{packet}, "listening on s"},
		{"a stream", []*os.File{stream}, "ListenSequentialPacket="},
		{"two sockets", []*os.File{packet, packet}, "2 sockets"},
		{"something that is no socket", []*os.File{os.Stderr}, "take the socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), listening+"=1", "LISTEN_FDS="+strconv.Itoa(len(c.files)))
			cmd.ExtraFiles = c.files
			out, err := cmd.Output()
			if err != nil || !strings.Contains(string(out), c.says) {
				t.Errorf("it says %q (%v), not %q", out, err, c.says)
			}
		})
	}
	// What a broker leaves must serve the next one.
	if c, err := net.Dial("unixpacket", packet.Name()); err != nil {
		t.Errorf("the socket is gone with the program that took it: %v", err)
	} else {
		_ = c.Close()
	}
}

// listen is a socket as a service manager has it; its name is its path.
func listen(t *testing.T, network string) *os.File {
	t.Helper()
	dir, err := os.MkdirTemp("", "pamprompt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return os.NewFile(f.Fd(), path)
}

// manager is the socket of a service manager that we are under.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func told(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestTheServiceManagerIsToldOfTheStartAndTheEnd(t *testing.T) {
	c := manager(t)
	Ready(slog.New(slog.DiscardHandler))
	Stopping(slog.New(slog.DiscardHandler))
	if first, second := told(t, c), told(t, c); first != "READY=1" || second != "STOPPING=1" {
		t.Errorf("it is told %q and %q", first, second)
	}
}

func TestTheWatchdogIsFedOnlyWhileWeAreAlive(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_USEC", "3000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan bool)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watchdog(ctx, func(context.Context) bool { return <-asked }, slog.New(slog.DiscardHandler))
	}()
	asked <- false // of these nobody is told
	asked <- false
	asked <- true
	if said := told(t, c); said != "WATCHDOG=1" {
		t.Errorf("it is told %q", said)
	}
	asked <- false
	cancel()
	select {
	case asked <- false: // the tick may have won
		<-ended
	case <-ended:
	}
	Stopping(slog.New(slog.DiscardHandler))
	if said := told(t, c); said != "STOPPING=1" {
		t.Errorf("after an answer that did not come it is told %q", said)
	}
}

func TestWithoutAServiceManagerThereIsNoWatchdog(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	for _, usec := range []string{"", "0", "soon"} {
		t.Setenv("WATCHDOG_USEC", usec)
		Watchdog(t.Context(), func(context.Context) bool {
			t.Errorf("with %q it is asked whether we are alive", usec)
			return false
		}, slog.New(slog.DiscardHandler))
	}
}
