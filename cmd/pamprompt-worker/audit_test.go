// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// TestThePAMAuditEventsAreKept, each with who, from where and how it went: what
// the worker does to its process must not hinder libpam, which fails where it
// should tell the kernel and cannot.
func TestThePAMAuditEventsAreKept(t *testing.T) {
	needAudit(t)
	const from = " acct=root host=example.org tty=pts/7"
	for _, test := range []struct {
		name    string
		probe   string
		replies []convtest.Reply
		want    []string
	}{
		{"a session", "auth:ask=secret,x", []convtest.Reply{convtest.Answer("x")}, []string{
			"1100 PAM:authentication grantors=pam_probe" + from + " success=1 taken=1",
			"1101 PAM:accounting grantors=pam_probe" + from + " success=1 taken=1",
			"1103 PAM:setcred grantors=pam_probe" + from + " success=1 taken=1",
			"1105 PAM:session_open grantors=pam_probe" + from + " success=1 taken=1",
			"1106 PAM:session_close grantors=pam_probe" + from + " success=1 taken=1",
			"1104 PAM:setcred grantors=pam_probe" + from + " success=1 taken=1",
		}},
		{"a wrong answer", "auth:ask=secret,x auth:expect=y", []convtest.Reply{convtest.Answer("x")}, []string{
			"1100 PAM:authentication grantors=?" + from + " success=0 taken=1",
		}},
		{"a question that nobody answers", "auth:ask=secret,x", []convtest.Reply{convtest.Close}, []string{
			"1100 PAM:authentication grantors=?" + from + " success=0 taken=1",
		}},
		{"a new password", "account:result=PAM_NEW_AUTHTOK_REQD chauthtok:result=PAM_AUTHTOK_ERR", nil, []string{
			"1100 PAM:authentication grantors=pam_probe" + from + " success=1 taken=1",
			"1101 PAM:accounting grantors=?" + from + " success=0 taken=1",
			"1108 PAM:chauthtok grantors=?" + from + " success=0 taken=1",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, test.probe)
			notes := filepath.Join(dir, "notes")
			t.Setenv("LD_PRELOAD", modules.AuditNotes(t))
			t.Setenv("AUDIT_NOTES", notes)
			process, peer := idle(t, dir)
			convtest.Play(peer, convtest.Start("test", "root", func(s *worker.Start) {
				s.Options.Rhost, s.Options.Tty = "example.org", "pts/7"
			}), test.replies...)
			process.Wait()
			text, err := os.ReadFile(notes)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Split(strings.TrimSpace(string(text)), "\n"); !slices.Equal(got, test.want) {
				t.Errorf("the kernel was told\n\t%s\nnot\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
			}
		})
	}
}

// needAudit skips the test where the kernel has no audit system, or none for this
// user namespace. It asks for what anybody may hear: that the request is refused,
// or that it is not.
func needAudit(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may tell the kernel's audit system something")
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	if err != nil {
		t.Skipf("the kernel has no audit system (CONFIG_AUDIT): %v", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(request[0:], unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint16(request[4:], unix.AUDIT_GET)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	err = unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if errors.Is(err, unix.ECONNREFUSED) {
		t.Skip("the kernel's audit system is not for this user namespace: run it in the first one")
	}
	if err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, reply, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		t.Fatalf("the kernel's audit system says %d bytes: %v", n, err)
	}
	refusal := -int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr:]))
	if binary.NativeEndian.Uint16(reply[4:]) == unix.NLMSG_ERROR && refusal == int32(unix.ECONNREFUSED) {
		t.Skip("the kernel's audit system is not for this user namespace: run it in the first one")
	}
}
