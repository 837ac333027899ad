// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestSystemdsReplies(t *testing.T) {
	for _, c := range []struct{ name, kind, input, want string }{
		{"an answer", "1", "correct horse\n", "answered: correct horse"},
		{"an answer without a newline", "1", "x", "answered: x"},
		{"an empty answer", "1", "\n", "answered: "},
		{"an answer of spaces", "1", "  x \n", "answered:   x "},
		{"two lines", "1", "a\nb\n", "answered: a"},
		{"a cancel", "0", "", "cancelled"},
		{"an answer that looks like a cancel", "1", "-\n", "answered: -"},
		{"an answer that is no UTF-8", "1", "\xff\xfe\n", "answered: \xff\xfe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := post(t)
			check(t, q.reply(0, c.kind, c.input))
			if got := q.heard(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			q.goesOn()
		})
	}
}

func TestDatagrams(t *testing.T) {
	long := bytes.Repeat([]byte("x"), MaxAnswer)
	for _, c := range []struct {
		name, packet, want string
	}{
		{"no NUL at the end", "+abc", "answered: abc"},
		{"a NUL at the end", "+abc\x00", "answered: abc"},
		{"nothing behind the sign", "+", "answered: "},
		{"only a NUL", "+\x00", "answered: "},
		{"candidates of a cache", "+a\x00b\x00c\x00", "answered: a"},
		{"Ctrl-C on the splash", "+\x03\x00", "cancelled"},
		{"an answer with Ctrl-C in it", "+\x03\x03\x00", "answered: \x03\x03"},
		{"an empty first candidate", "+\x00b\x00", "answered: "},
		{"the longest answer", "+" + string(long), "answered: " + string(long)},
		{"a long answer with a NUL", "+" + string(long[1:]) + "\x00", "answered: " + string(long[1:])},
		{"a cancel", "-", "cancelled"},
		{"a cancel with more", "-abc\x00", "cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := post(t)
			check(t, q.send([]byte(c.packet)))
			r := within(t, q.replies)
			if r.UID != uint32(os.Getuid()) || r.PID != int32(os.Getpid()) {
				t.Errorf("it came from %d, process %d", r.UID, r.PID)
			}
			q.replies <- r
			if got := q.heard(); got != c.want {
				t.Errorf("%.100q", got)
			}
			q.goesOn()
		})
	}
}

func TestDatagramsThatAreNoAnswer(t *testing.T) {
	long := strings.Repeat("x", MaxAnswer)
	for _, c := range []struct{ name, packet, why string }{
		{"nothing", "", "it is empty"},
		{"garbage", "hello", "neither + nor -"},
		{"a NUL", "\x00+abc", "neither + nor -"},
		{"one byte too many", "+" + long + "x", "longer than 65535 bytes"},
		{"far too many", "+" + long + long, "longer than 65535 bytes"},
		{"a cancel that is too long", "-" + long + "x", "longer than 65535 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := post(t)
			for range 3 {
				check(t, q.send([]byte(c.packet)))
			}
			q.goesOn()
			if log := q.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, c.why) || strings.Contains(log, "hello") {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

func TestAnswersOfOthersDoNotCount(t *testing.T) {
	q := post(t)
	check(t, os.Chmod(q.path(), 0o666)) // so that only the credentials tell
	check(t, q.reply(65534, "1", "from nobody\n"))
	check(t, q.reply(65534, "0", ""))
	q.goesOn()
	if log := q.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "it came from uid 65534") {
		t.Errorf("the log says %q", log)
	}
	check(t, os.Chmod(q.path(), 0o600))
	if err := q.reply(65534, "1", "from nobody\n"); err == nil {
		t.Error("somebody else may write to the socket")
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	return len(names(t, "/proc/self/fd"))
}

func TestDescriptorsThatComeAlongAreDropped(t *testing.T) {
	q := post(t)
	q.goesOn()
	r, w, err := os.Pipe()
	check(t, err)
	defer func() { _ = r.Close() }()
	before := descriptors(t)
	fds := make([]int, 200)
	for i := range fds {
		fds[i] = int(w.Fd())
	}
	for _, packet := range []string{"+abc", "garbage", ""} {
		check(t, q.send([]byte(packet), fds...))
	}
	if got := q.heard(); got != "answered: abc" {
		t.Errorf("%q", got)
	}
	q.goesOn()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, and %d were before", after, before)
	}
	check(t, w.Close())
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("somebody holds the pipe")
	}
}
