// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const agent = "systemd-tty-ask-password-agent"

// listed is what systemd's agent says about the requests in a directory, and
// what it complains of.
func listed(t testing.TB, dir string) (list, complaints string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := inNamespace(t, dir, agent, "--list")
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit interface{ ExitCode() int }
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String()
}

func TestSystemdReadsWhatFormatWrites(t *testing.T) {
	dir := folder(t)
	for i, message := range append(hostile, "Password:", "x'y", `"quoted"`, `C:\`, `a\\`, "# no comment", "[Ask]") {
		r := Request{Message: message, Icon: message, ID: message, Socket: filepath.Join(dir, "sck"), PID: os.Getpid(), NotAfter: Now() + 1e9, Echo: i%2 == 0}
		write(t, dir, "ask.x", string(r.Format()))
		meant := cut(clean(message), MaxLine)
		if meant == "" {
			meant = "n/a" // what it says for nothing
		}
		want := fmt.Sprintf("'%s' (PID %d)\n", meant, os.Getpid())
		if list, complaints := listed(t, dir); list != want || complaints != "" {
			t.Errorf("%.100q: listed as %q, want %q; it complains %q", message, list, want, complaints)
		}
	}
	write(t, dir, "ask.x", string(Request{Message: "of nobody", Socket: "/s"}.Format()))
	if list, complaints := listed(t, dir); list != "'of nobody' (PID 0)\n" || complaints != "" {
		t.Errorf("listed as %q; it complains %q", list, complaints)
	}
}

// sockets are two that a file may name.
type sockets struct {
	dir string
	fds [2]int
}

func newSockets(t testing.TB) *sockets {
	s := &sockets{dir: folder(t)}
	for i := range s.fds {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		check(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: s.path(i)}))
		s.fds[i] = fd
	}
	return s
}

func (s *sockets) path(i int) string { return filepath.Join(s.dir, string(rune('A'+i))) }

// named is which of the two a path is; empty for neither.
func (s *sockets) named(path string) string {
	for i := range s.fds {
		if path == s.path(i) {
			return filepath.Base(path)
		}
	}
	return ""
}

// answered is to which of the two systemd's agent sends an answer to what is in
// a directory. Without a terminal it reads the answer from its standard input.
func (s *sockets) answered(t testing.TB, dir string) string {
	t.Helper()
	cmd := inNamespace(t, dir, agent, "--query")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin = strings.NewReader("sesame\n")
	_ = cmd.Run()
	got := ""
	for i, fd := range s.fds {
		b := make([]byte, 100)
		if n, _, err := unix.Recvfrom(fd, b, 0); err == nil && string(b[:n]) == "+sesame\x00" {
			got += filepath.Base(s.path(i))
		}
	}
	return got
}

// agree checks that what we take for a request systemd takes for the same one.
// It returns where each would send the answer.
func (s *sockets) agree(t testing.TB, dir, text string) (ours, theirs string) {
	t.Helper()
	write(t, dir, "ask.x", text)
	r, err := Parse([]byte(text))
	theirs = s.answered(t, dir)
	if err != nil {
		return "", theirs
	}
	if ours = s.named(r.Socket); ours != theirs {
		t.Errorf("we would answer to %q, and systemd does to %q: %q", ours, theirs, text)
	}
	message := r.Message
	if message == "" {
		message = "n/a"
	}
	if list, complaints := listed(t, dir); list != fmt.Sprintf("'%s' (PID %d)\n", message, r.PID) {
		t.Errorf("we read %+v, and systemd %q, and complains %q: %q", r, list, complaints, text)
	}
	return ours, theirs
}

// What somebody else writes we read as systemd does, or we do not read it at
// all, which may be more often than with systemd.
func TestFilesOfOthersAreReadAsSystemdReadsThem(t *testing.T) {
	needRoot(t)
	s, dir := newSockets(t), folder(t)
	for _, c := range []struct{ name, text, ours, theirs string }{
		{"nothing special", "[Ask]\nSocket=A\nMessage=x\n", "A", "A"},
		{"no newline at the end", "[Ask]\nMessage=x\nSocket=A", "A", "A"},
		{"spaces around everything", " [Ask] \n\t Socket \t=  A \n Message = x  y \n", "A", "A"},
		{"a key twice", "[Ask]\nSocket=A\nSocket=B\n", "", "B"},
		{"a section twice", "[Ask]\nSocket=A\n[Ask]\nMessage=x\n", "A", "A"},
		{"another section", "[Ask]\nSocket=A\n[Other]\nSocket=B\n", "A", "A"},
		{"only another section", "[Other]\nSocket=A\n", "", ""},
		{"no section", "Socket=A\n[Ask]\n", "", ""},
		{"a section in the middle of a line", "x [Ask]\nSocket=A\n", "", ""},
		{"a section that does not end", "[Ask]\nSocket=A\n[Other\nSocket=B\n", "", ""},
		{"a section with something behind it", "[Ask]\nSocket=A\n[Ask]x\n", "", ""},
		{"CRLF", "[Ask]\r\nSocket=A\r\nMessage=x\r\n", "", "A"},
		{"LFCR", "[Ask]\n\rSocket=A\n\rMessage=x\n\r", "", "A"},
		{"lines that only CR ends", "[Ask]\nSocket=A\nMessage=x\rSocket=B\n", "", "B"},
		{"a mark of UTF-8", "\ufeff[Ask]\nSocket=A\n", "", "A"},
		{"one on a later line", "[Ask]\n\ufeffSocket=A\n", "", "A"},
		{"two", "\ufeff[Ask]\nSocket=A\n\ufeffSocket=B\n", "", "A"},
		{"comments", "#[Ask]\n;x\n[Ask]\nSocket=A\n # Socket=B\n\t;Socket=B\n", "A", "A"},
		{"a comment that goes on", "[Ask]\n# x\\\nSocket=A\n", "", "A"},
		{"a comment behind a value", "[Ask]\nSocket=A # x\n", "", ""},
		{"a socket that a continuation hides", "[Ask]\nSocket=A\nMessage=x\\\nSocket=B\n", "", "A"},
		{"one behind a comment", "[Ask]\nSocket=A\nMessage=x\\\n# y\nSocket=B\n", "", "A"},
		{"one behind an empty line", "[Ask]\nSocket=A\nMessage=x\\\n\nSocket=B\n", "", "B"},
		{"one behind CRs", "[Ask]\nSocket=A\nMessage=x\\\r\rSocket=B\n", "", "B"},
		{"one behind CRLF", "[Ask]\nSocket=A\nMessage=x\\\r\nSocket=B\n", "", "A"},
		{"one behind LFCR", "[Ask]\nSocket=A\nMessage=x\\\n\rSocket=B\n", "", "A"},
		{"an escaped backslash", "[Ask]\nSocket=A\nMessage=x\\\\\nSocket=B\n", "", "B"},
		{"three backslashes", "[Ask]\nSocket=A\nMessage=x\\\\\\\nSocket=B\n", "", "A"},
		{"a backslash and a space", "[Ask]\nSocket=A\nMessage=x\\ \nSocket=B\n", "", "B"},
		{"a continued socket", "[Ask]\nSocket=\\\nA\n", "", "A"},
		{"a continued section", "[Ask]\nSocket=A\n\\\n[Other]\nSocket=B\n", "", "A"},
		{"a continuation at the end", "[Ask]\nMessage=x\nSocket=A\\", "", "A"},
		{"a space that is none to systemd", "[Ask]\nSocket=\u00a0A\n", "", ""},
		{"a key behind one", "[Ask]\nSocket=A\n\u00a0Socket=B\n", "", "A"},
		{"a vertical tab", "[Ask]\nSocket=A\n\vSocket=B\n", "", "A"},
		{"a line without a value", "[Ask]\nSocket=A\nSocket\n=B\n", "", "A"},
		{"a value with =", "[Ask]\nMessage=x=y\nSocket=A\n", "A", "A"},
		{"a newline of Unicode", "[Ask]\nSocket=A\nMessage=x\u2028Socket=B\u0085Socket=B\n", "", "A"},
		{"a long line", "[Ask]\nMessage=" + strings.Repeat("x", 5000) + "\nSocket=A\n", "", "A"},
		{"a long word", "[Ask]\nSocket=A\n" + strings.Repeat("x", 50000) + "\n", "", "A"},
		{"a path with //", "[Ask]\nSocket=/A\n", "A", "A"},
		// We are stricter, since whoever writes such a thing meant another:
		{"a NUL", "[Ask]\nSocket=A\n\x00Socket=B\n", "", "B"},
		{"a second socket that systemd passes over", "[Ask]\nSocket=A\nSocket=B'\n", "", "A"},
		{"a socket by a relative path", "[Ask]\nSocket=A\nSocket=x\n", "", ""},
		{"a path with ..", "[Ask]\nSocket=/..A\n", "", "A"},
		{"a process of no number", "[Ask]\nSocket=A\nPID=x\n", "", "A"},
		{"a boolean that is none", "[Ask]\nSocket=A\nEcho=maybe\n", "", "A"},
		{"a time that is none", "[Ask]\nSocket=A\nNotAfter=-1\n", "", "A"},
		{"what is no UTF-8", "[Ask]\nSocket=A\nMessage=\xff\n", "", ""},
		{"what is no character", "[Ask]\nSocket=A\nMessage=\uffff\n", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.NewReplacer("A\n", s.path(0)+"\n", "A\r", s.path(0)+"\r", "A ", s.path(0)+" ", "=A", "="+s.path(0), "A\\", s.path(0)+"\\", "B", s.path(1),
				"/A", "/"+s.path(0), "/..A", "/.."+s.path(0), "\u00a0A", "\u00a0"+s.path(0)).Replace(c.text)
			if ours, theirs := s.agree(t, dir, text); ours != c.ours || theirs != c.theirs {
				t.Errorf("we would answer to %q, systemd does to %q, want %q and %q: %q", ours, theirs, c.ours, c.theirs, text)
			}
		})
	}
}

func TestAnyFileIsReadAsSystemdReadsIt(t *testing.T) {
	needRoot(t)
	s, dir := newSockets(t), folder(t)
	parts := []string{
		"[Ask]", "[Ask]\n", "[Other]\n", "[", "]", "\n", "\n", "\n", "\r", "\r\n", "\n\r", " ", "\t", "\v", "\u00a0", "\ufeff", "\u2028", "#", ";", `\`, `\`, "\\\n", "=",
		"Socket=" + s.path(0), "Socket=" + s.path(1), "Socket=" + s.path(1) + "\n", "Socket=", "Message=", "Message=x", "x", `"`, "'", "ä", "\xff", "\ufdd0",
		fmt.Sprintf("PID=%d\n", os.Getpid()), "PID=0\n", "PID=", "Echo=1\n", "Silent=off\n", "NotAfter=0\n",
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.SampledFrom([]string{"", "[Ask]\nSocket=" + s.path(0) + "\n", "[Ask]\nSocket=" + s.path(0) + "\nMessage=x"}).Draw(rt, "start")
		text += strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 0, 12).Draw(rt, "parts"), "")
		if s.agree(t, dir, text); t.Failed() {
			rt.FailNow()
		}
	})
}
