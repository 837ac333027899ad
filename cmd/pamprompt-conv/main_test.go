// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run-main" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// TestItIsOfNoUseByItself has it started by somebody who is curious.
func TestItIsOfNoUseByItself(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
		code int
	}{
		{"", "descriptor 3 is no socket of packets: only pam_pamprompt.so starts this program", 1},
		{"serve", "descriptor 3 is no socket of packets: only pam_pamprompt.so starts this program", 1},
		{"--help", "usage: pamprompt-conv", 0},
		{"--bus", "these arguments are not known: --help says what there is", 1},
		{"serve serve", "these arguments are not known: --help says what there is", 1},
	} {
		t.Run(test.args, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], append([]string{"run-main"}, strings.Fields(test.args)...)...)
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("exit code %d, %v: %s", code, err, out)
			}
		})
	}
}

// link is both ends of the socket.
func pair(t *testing.T) (module, helper *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "link")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// TestWhatItDoesNotStayFor ends it, whoever is at the other end.
func TestWhatItDoesNotStayFor(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	for _, test := range []struct {
		name    string
		packets []string
		want    error // nil for an end that is none of a failure
		reply   string
	}{
		{"the module goes away", nil, nil, ""},
		{"what is no request", []string{"hello world"}, errMalformed, ""},
		{"a question before the first request", []string{"Q\x00\x00\x00\x01\x01P:"}, errMalformed, ""},
		{"a long packet", []string{opening + strings.Repeat("x", maxRequest)}, errMalformed, ""},
		{"no bus", []string{opening + "cron\x00anna\x00\x00"}, nil, "U\x00\x00\x00\x01"},
	} {
		t.Run(test.name, func(t *testing.T) {
			module, helper := pair(t)
			done := make(chan error, 1)
			go func() { done <- serve(helper, patience, idle) }()
			for _, packet := range test.packets {
				if _, err := module.Write([]byte(packet)); err != nil {
					t.Fatal(err)
				}
			}
			if test.reply != "" {
				buffer := make([]byte, maxReply)
				if n, err := module.Read(buffer); err != nil || !strings.HasPrefix(string(buffer[:n]), test.reply) {
					t.Errorf("it replies %q, %v", buffer[:n], err)
				}
			}
			_ = module.Close()
			select {
			case err := <-done:
				if test.want != nil && !errors.Is(err, test.want) || test.want == nil && test.reply == "" && err != nil {
					t.Errorf("it ends with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it stays")
			}
		})
	}
}

func TestItDoesNotStayForNothing(t *testing.T) {
	_, helper := pair(t)
	if err := serve(helper, time.Millisecond, time.Hour); err != nil {
		t.Errorf("when nothing is wanted it ends with %v", err)
	}
}
