// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

var asks = map[string]string{
	"ask":    "[auth:ask=secret,Password: ] auth:expect=right",
	"binary": "auth:ask=binary,hex:000000060141 auth:export=GOT",
	"slow":   "[auth:ask=secret,Password: ] auth:expect=right close:log=LOG",
}

func memfd(t *testing.T, text []byte) dbus.UnixFD {
	t.Helper()
	s, err := secret.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	f, err := s.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return dbus.UnixFD(f.Fd())
}

// A bad answer is refused by name, and the prompt waits on for a good one.
func TestAnswersThatCannotBeRight(t *testing.T) {
	b := start(t, asks)
	before := b.descriptors(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	long, tooLong := bytes.Repeat([]byte("x"), api.MaxResponse), strings.Repeat("x", api.MaxResponse+1)
	path := b.open(t, b.conn, "ask", nil)
	number := b.prompt(t, path, 0)
	for _, c := range []struct {
		name string
		call func() error
		want string
		says string
	}{
		{"a text over 64 KiB", func() error { return manager(b.conn, "AnswerPrompt", number, tooLong).Err }, "LimitExceeded", "65536"},
		{"a pipe over 64 KiB", func() error { return manager(b.conn, "AnswerPromptFD", number, fullPipe(t, tooLong)).Err }, "LimitExceeded", "65536"},
		{"the writing end of a pipe", func() error { return manager(b.conn, "AnswerPromptFD", number, dbus.UnixFD(w.Fd())).Err }, "InvalidArgument", "cannot be read"},
		{"a directory", func() error { return manager(b.conn, "AnswerPromptFD", number, dbus.UnixFD(dir.Fd())).Err }, "InvalidArgument", "a directory"},
		{"a pipe that never ends", func() error { return manager(b.conn, "AnswerPromptFD", number, dbus.UnixFD(r.Fd())).Err }, "TimedOut", "did not end"},
		{"a NUL within", func() error { return manager(b.conn, "AnswerPromptFD", number, memfd(t, []byte("a\x00b"))).Err }, "InvalidArgument", "NUL"},
		{"longer than any module takes", func() error { return manager(b.conn, "AnswerPromptFD", number, memfd(t, long)).Err }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want == "" {
				return // the last one is for after the loop
			}
			want(t, c.call(), c.want, c.says)
		})
	}
	if err := manager(b.conn, "AnswerPrompt", number, "right").Err; err != nil {
		t.Fatalf("a good answer after the bad ones: %v", err)
	}
	if state, _, text := b.wait(t, path, "open"); state != api.StateOpen {
		t.Errorf("the session is %s: %s", state, text)
	}
	if after := b.descriptors(t); after > before+slack {
		t.Errorf("the broker has %d descriptors, before it had %d", after, before)
	}
}

func fullPipe(t *testing.T, text string) dbus.UnixFD {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	go func() {
		_, _ = w.WriteString(text)
		_ = w.Close()
	}()
	return dbus.UnixFD(r.Fd())
}

func TestAnswersToBinaryPrompts(t *testing.T) {
	b := start(t, asks)
	path := b.open(t, b.conn, "binary", nil)
	number := b.prompt(t, path, 0)
	encode := base64.StdEncoding.EncodeToString
	for name, answer := range map[string]string{
		"no base64":           "%%%",
		"too short":           encode([]byte{0, 0, 0}),
		"a length over it":    encode([]byte{0, 0, 0, 99, 1, 2}),
		"a length below it":   encode([]byte{0, 0, 0, 5, 1, 2}),
		"a length below five": encode([]byte{0, 0, 0, 4}),
	} {
		t.Run(name, func(t *testing.T) {
			want(t, manager(b.conn, "AnswerPrompt", number, answer).Err, "InvalidArgument", " ")
		})
	}
	if err := manager(b.conn, "AnswerPrompt", number, encode([]byte{0, 0, 0, 7, 2, 'o', 'k'})).Err; err != nil {
		t.Fatal(err)
	}
	if state, _, text := b.wait(t, path, "open"); state != api.StateOpen {
		t.Errorf("the session is %s: %s", state, text)
	}
}

func TestAnswersToPromptsThatAreGone(t *testing.T) {
	b := start(t, asks)
	answered, cancelled, closed := b.open(t, b.conn, "ask", nil), b.open(t, b.conn, "ask", nil), b.open(t, b.conn, "ask", nil)
	expired := b.open(t, b.conn, "ask", options{"timeout": dbus.MakeVariant(uint64(1))})
	numbers := map[dbus.ObjectPath]uint64{answered: b.prompt(t, answered, 0), cancelled: b.prompt(t, cancelled, 0), closed: b.prompt(t, closed, 0)}
	if err := manager(b.conn, "AnswerPrompt", numbers[answered], "right").Err; err != nil {
		t.Fatal(err)
	}
	if err := manager(b.conn, "CancelPrompt", numbers[cancelled]).Err; err != nil {
		t.Fatal(err)
	}
	if err := session(b.conn, closed, "Close").Err; err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path       dbus.ObjectPath
		state, end string
		code       string
	}{
		{answered, api.StateOpen, "", "AlreadyAnswered"},
		{cancelled, api.StateFailed, "Cancelled: ", "Cancelled"},
		{closed, api.StateClosed, "", "NoSuchPrompt"},
		{expired, api.StateFailed, "TimedOut: ", ""},
	} {
		wait := "open"
		if c.state == api.StateClosed {
			wait = "closed"
		}
		if state, _, text := b.wait(t, c.path, wait); state != c.state || !strings.HasPrefix(text, c.end) {
			t.Errorf("the session is %s: %q, want %s: %q", state, text, c.state, c.end)
		}
		if c.code != "" {
			want(t, manager(b.conn, "AnswerPrompt", numbers[c.path], "right").Err, c.code, "prompt")
			want(t, manager(b.conn, "AnswerPromptFD", numbers[c.path], memfd(t, []byte("right"))).Err, c.code, "prompt")
			want(t, manager(b.conn, "CancelPrompt", numbers[c.path]).Err, c.code, "prompt")
		}
	}
}

// Two agents answer at the same instant, fifty times: one wins each time, the
// other hears that it did not, and the module gets one answer.
func TestTwoAnswersAtTheSameInstant(t *testing.T) {
	b := start(t, asks)
	agents := []*dbus.Conn{b.Conn(t), b.Conn(t)}
	for range 50 {
		path := b.open(t, b.conn, "ask", nil)
		number := b.prompt(t, path, 0)
		go_, results := make(chan struct{}), make(chan error, len(agents))
		for i, agent := range agents {
			go func() {
				<-go_
				if i == 0 {
					results <- manager(agent, "AnswerPrompt", number, "right").Err
				} else {
					results <- manager(agent, "AnswerPromptFD", number, memfd(t, []byte("right"))).Err
				}
			}()
		}
		close(go_)
		var lost []error
		for range agents {
			if err := <-results; err != nil {
				lost = append(lost, err)
			}
		}
		if len(lost) != 1 {
			t.Fatalf("%d of 2 answers lost: %v", len(lost), lost)
		}
		want(t, lost[0], "AlreadyAnswered", "prompt")
		if state, _, text := b.wait(t, path, "open"); state != api.StateOpen {
			t.Fatalf("the session is %s: %s", state, text)
		}
		if err := session(b.conn, path, "Close").Err; err != nil {
			t.Fatal(err)
		}
	}
}

// Another user sees nothing and may nothing, and cannot tell what is not there
// from what is not for it.
func TestSomebodyElsesSessionsAndPrompts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	b := start(t, asks)
	path := b.open(t, b.conn, "ask", nil)
	number := b.prompt(t, path, 0)
	for _, open := range []string{b.Dir, strings.TrimPrefix(strings.Split(b.Address, ",")[0], "unix:path=")} {
		for dir := open; dir != "/"; dir = dir[:max(strings.LastIndex(dir, "/"), 1)] {
			if st, err := os.Stat(dir); err == nil && st.IsDir() && st.Mode()&0o001 == 0 {
				if err := os.Chmod(dir, st.Mode()|0o001); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	as := func(args ...string) string {
		cmd := exec.Command("busctl", append([]string{"--address=" + b.Address, "call"}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	root := []string{api.BusName, api.RootPath, api.ManagerInterface}
	call := func(member string, args ...string) string { return as(append(append(root, member), args...)...) }
	on := func(path dbus.ObjectPath, member string, args ...string) string {
		return as(append([]string{api.BusName, string(path), api.SessionInterface, member}, args...)...)
	}
	if got := call("ListSessions"); got != "a(tssuso) 0" {
		t.Errorf("ListSessions: %s", got)
	}
	if got := call("ListPrompts"); got != "a(tossa{sv}) 0" {
		t.Errorf("ListPrompts: %s", got)
	}
	if got := call("OpenSession", "ssa{sv}", "ask", "root", "0"); !strings.Contains(got, "you may not open sessions of this service") {
		t.Errorf("OpenSession: %s", got)
	}
	if got := call("RegisterAgent", "a{sv}", "0"); got != "" {
		t.Errorf("RegisterAgent: %s", got)
	}
	there, gone := []string{}, []string{}
	for _, c := range []struct {
		to     *[]string
		path   dbus.ObjectPath
		number string
	}{{&there, path, formatNumber(number)}, {&gone, noSuch, "1"}} {
		*c.to = append(*c.to,
			call("AnswerPrompt", "ts", c.number, "right"), call("CancelPrompt", "t", c.number),
			on(c.path, "Close"), on(c.path, "Wait", "s", "closed"), on(c.path, "NextPrompt", "t", "0"),
			as(api.BusName, string(c.path), "org.freedesktop.DBus.Properties", "GetAll", "s", api.SessionInterface),
			as(api.BusName, string(c.path), "org.freedesktop.DBus.Properties", "Get", "ss", api.SessionInterface, "User"),
			as(api.BusName, string(c.path), "org.freedesktop.DBus.Introspectable", "Introspect"))
	}
	for i := range there {
		if !strings.Contains(there[i], "you may not") || there[i] != gone[i] {
			t.Errorf("call %d: of what is there: %q; of what is not: %q", i, there[i], gone[i])
		}
	}
	if err := manager(b.conn, "AnswerPrompt", number, "right").Err; err != nil {
		t.Errorf("root's answer afterwards: %v", err)
	}
}
