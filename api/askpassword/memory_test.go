// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// largestMapping is more than the runtime maps for its heap at once. What is
// larger is the race detector's.
const largestMapping = 256 << 20

// found counts how often a text stands in the memory of this process, but for
// some places. Those are outside of Go's heap, as is what it works with.
func found(t testing.TB, text *secret.Secret, but ...*secret.Secret) (n int) {
	t.Helper()
	buffer, err := secret.New(secret.Max)
	check(t, err)
	defer buffer.Wipe()
	maps, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	mem, err := os.Open("/proc/self/mem")
	check(t, err)
	defer func() { _ = mem.Close() }()
	but = append(but, buffer, text)
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		if k, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); k != 3 || !strings.HasPrefix(mode, "rw") || to-from > largestMapping {
			continue
		}
		step := uintptr(buffer.Len() - text.Len() + 1) // nothing is cut in two, nor seen twice
		for at := from; at < to; at += step {
			size := min(to-at, uintptr(buffer.Len()))
			b := buffer.Bytes()[:size]
			if _, err := unix.Pread(int(mem.Fd()), b, int64(at)); err != nil {
				continue
			}
			for i := 0; ; i++ {
				next := bytes.Index(b[i:], text.Bytes())
				if next < 0 {
					break
				}
				if i += next; !inside(at+uintptr(i), but) {
					n++
				}
			}
		}
	}
	return n
}

func inside(at uintptr, secrets []*secret.Secret) bool {
	for _, s := range secrets {
		b := s.Bytes()
		if start := uintptr(unsafe.Pointer(unsafe.SliceData(b))); start <= at && at < start+uintptr(len(b)) {
			return true
		}
	}
	return false
}

// A program makes up a password and sends it. Only then we learn it, in a way
// that leaves no other copy.
func TestAnAnswerStaysOutOfTheHeap(t *testing.T) {
	q := post(t)
	file := filepath.Join(folder(t), "password")
	out, err := exec.Command("sh", "-c", `head -c 24 /dev/urandom | base64 >"$0" && exec /lib/systemd/systemd-reply-password 1 "$1" <"$0"`, file, q.path()).CombinedOutput()
	if err != nil {
		t.Skipf("%v: the Debian package systemd has systemd-reply-password: %s", err, out)
	}
	reply := within(t, q.replies)
	f, err := os.Open(file)
	check(t, err)
	defer func() { _ = f.Close() }()
	password, err := secret.Read(f)
	check(t, err)
	defer password.Wipe()
	password.Truncate(password.Len() - 1) // the newline
	if !bytes.Equal(reply.Answer.Bytes(), password.Bytes()) {
		t.Fatal("the answer is another")
	}
	if n := found(t, password); n != 1 {
		t.Errorf("it was found %d times while it was held, want 1", n)
	}
	if n := found(t, password, reply.Answer); n != 0 {
		t.Errorf("%d copies are elsewhere", n)
	}
	reply.Answer.Wipe()
	if n := found(t, password); n != 0 {
		t.Errorf("%d copies are left", n)
	}
}

// locked is the line of the memory that is locked.
func locked(t testing.TB) string {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	check(t, err)
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmLck:") {
			return line
		}
	}
	t.Fatal("the kernel does not say what is locked")
	return ""
}

func TestNoMemoryStaysLocked(t *testing.T) {
	q := post(t)
	q.goesOn()
	before := locked(t)
	for range 50 {
		for _, packet := range []string{"garbage", "", "-", "+abc", "+" + strings.Repeat("x", secret.Max)} {
			check(t, q.send([]byte(packet)))
		}
		for _, want := range []string{"cancelled", "answered: abc"} {
			if got := q.heard(); got != want {
				t.Fatalf("%q came", got)
			}
		}
	}
	q.goesOn()
	if after := locked(t); after != before {
		t.Errorf("%s, and before %s", after, before)
	}
}
