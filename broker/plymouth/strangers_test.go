// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These have no real plymouthd: it is always root's, and always replies.

// listenAndCount listens in plymouthd's place, and says of each connection how
// many bytes it brought.
func listenAndCount() {
	l, err := net.Listen("unix", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("listening")
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, conn)
		fmt.Println(n, "bytes", err)
		_ = conn.Close()
	}
}

func TestAListenerOfAnotherUserGetsNothing(t *testing.T) {
	needPrivateMachine(t)
	const nobody = 65534
	cmd := exec.Command("/proc/self/exe") // where the file is, other users may not go
	cmd.Env = []string{listenEnv + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(stdout)
	says := func(want string) {
		t.Helper()
		if line, err := lines.ReadString('\n'); err != nil || line != want+"\n" {
			t.Fatalf("the listener says %q, %v, want %q", line, err, want)
		}
	}
	says("listening")
	s, log, stop := run(t)
	for range 3 {
		s.Show(1, finger)
		says("0 bytes <nil>")
	}
	stop()
	if n := log.count("level=WARN"); n != 1 {
		t.Errorf("there are %d warnings, want 1: %s", n, log.all)
	}
	if n := log.count("held by uid 65534"); n != 3 {
		t.Errorf("uid 65534 is named %d times, want 3: %s", n, log.all)
	}
}

// listen listens in plymouthd's place, as root.
func listen(t *testing.T, backlog int) (fd int) {
	t.Helper()
	needPrivateMachine(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestAListenerThatNeverRepliesIsLeftInTime(t *testing.T) {
	fd := listen(t, unix.SOMAXCONN)
	s, log, stop := run(t)
	s.Show(1, finger)
	conn, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(conn) }()
	if _, err := unix.Read(conn, make([]byte, 1)); err != nil { // so the text may be shown, and is to be hidden
		t.Fatal(err)
	}
	start := time.Now()
	for range 100 {
		s.Hide(1)
		s.Show(1, "another")
	}
	if took := time.Since(start); took >= patience {
		t.Errorf("Show and Hide took %v", took)
	}
	start = time.Now()
	stop() // leaves the exchange, and tries to hide for as long as one may take
	if took := time.Since(start); took >= 2*patience {
		t.Errorf("Run took %v to end, want about %v", took, patience)
	}
	log.see(t, "i/o timeout")
}

func TestAListenerThatNeverAcceptsIsLeftInTime(t *testing.T) {
	listen(t, 0)
	s, log, _ := run(t)
	s.Show(1, finger) // has the only place
	log.see(t, "i/o timeout")
	s.Show(1, finger)
	log.see(t, syscall.EAGAIN.Error())
}

func TestAReplyThatIsNoAcknowledgementIsAnError(t *testing.T) {
	fd := listen(t, unix.SOMAXCONN)
	s, log, _ := run(t)
	for _, c := range []struct{ name, reply, want string }{
		{"plymouthd refuses", "\x15\x15", "plymouthd replied 0x15"},
		{"it is no plymouthd", "no", "plymouthd replied 0x6e"},
		{"it hangs up", "", "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Show(1, finger)
			conn, _, err := unix.Accept(fd)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(conn) }()
			if _, err := unix.Read(conn, make([]byte, 1024)); err != nil { // what is unread would be a reset
				t.Fatal(err)
			}
			if _, err := unix.Write(conn, []byte(c.reply)); err != nil {
				t.Fatal(err)
			}
			_ = unix.Shutdown(conn, unix.SHUT_WR)
			log.see(t, c.want)
		})
	}
}
