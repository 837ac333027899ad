// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
)

func sealed(t *testing.T, text string) *os.File {
	t.Helper()
	f := unsealed(t, text)
	if err := secret.Seal(f); err != nil {
		t.Fatal(err)
	}
	return f
}

func unsealed(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := secret.NewMemfd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

// pipe returns the reading end of a pipe that holds text, and its other end.
func pipe(t *testing.T, text string) (*os.File, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	if text != "" {
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 1<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	return r, w
}

func endedPipe(t *testing.T, text string) *os.File {
	t.Helper()
	r, w := pipe(t, text)
	_ = w.Close()
	return r
}

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestADescriptorBecomesASealedMemfd(t *testing.T) {
	longest, tooLong := strings.Repeat("x", api.MaxResponse), strings.Repeat("x", api.MaxResponse+1)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	readAlready := sealed(t, "at its end already")
	if _, err := io.Copy(io.Discard, readAlready); err != nil {
		t.Fatal(err)
	}
	_, writing := pipe(t, "")
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket, other := os.NewFile(uintptr(sockets[0]), "socket"), os.NewFile(uintptr(sockets[1]), "socket")
	t.Cleanup(func() { _, _ = socket.Close(), other.Close() })
	for _, c := range []struct {
		name string
		f    *os.File
		want string // the content,
		code api.Code
		says string // or the error
	}{
		{"a sealed memfd", sealed(t, "pässwörd"), "pässwörd", "", ""},
		{"an empty sealed memfd", sealed(t, ""), "", "", ""},
		{"a sealed memfd whose position is its end", readAlready, "at its end already", "", ""},
		{"a memfd that is not sealed", unsealed(t, "pw"), "pw", "", ""},
		{"the longest memfd", sealed(t, longest), longest, "", ""},
		{"a memfd that is too long", sealed(t, tooLong), "", api.LimitExceeded, "longer than 65536 bytes"},
		{"an unsealed memfd that is too long", unsealed(t, tooLong), "", api.LimitExceeded, "longer than 65536 bytes"},
		{"a pipe", endedPipe(t, "through a pipe\x00with a NUL"), "through a pipe\x00with a NUL", "", ""},
		{"an empty pipe", endedPipe(t, ""), "", "", ""},
		{"the longest pipe", endedPipe(t, longest), longest, "", ""},
		{"a pipe that is too long", endedPipe(t, tooLong), "", api.LimitExceeded, "longer than 65536 bytes"},
		{"a directory", open(t, dir, unix.O_RDONLY), "", api.InvalidArgument, "a directory"},
		{"a file", open(t, plain, unix.O_RDONLY), "", api.InvalidArgument, "a file of a file system"},
		{"a file to be written", open(t, plain, unix.O_WRONLY), "", api.InvalidArgument, "cannot be read"},
		{"a path without a file", open(t, plain, unix.O_PATH), "", api.InvalidArgument, "cannot be read"},
		{"the writing end of a pipe", writing, "", api.InvalidArgument, "cannot be read"},
		{"a device", open(t, "/dev/zero", unix.O_RDONLY), "", api.InvalidArgument, "a device"},
		{"a socket", socket, "", api.InvalidArgument, "a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := new(Broker)
			f, err := b.normalise(t.Context(), 0, int(c.f.Fd()))
			if c.code != "" {
				if !errors.Is(err, c.code) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("error %v, want %s with %q", err, c.code, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			s, err := secret.FromMemfd(f) // refuses what is not sealed
			if err != nil {
				t.Fatal(err)
			}
			defer s.Wipe()
			if !bytes.Equal(s.Bytes(), []byte(c.want)) {
				t.Errorf("it holds %d bytes, want %d", s.Len(), len(c.want))
			}
		})
	}
}

func TestAPipeThatNeverEndsTimesOut(t *testing.T) {
	silent, _ := pipe(t, "")
	half, _ := pipe(t, "half a pass")
	for name, f := range map[string]*os.File{"nothing comes": silent, "something comes and no end": half} {
		_, err := drainPipe(int(f.Fd()), 20*time.Millisecond)
		if !errors.Is(err, api.TimedOut) {
			t.Errorf("%s: %v, want TimedOut", name, err)
		}
	}
}

// The descriptor is shared with the caller: its flags are the caller's.
func TestTheCallersPipeKeepsItsFlags(t *testing.T) {
	r := endedPipe(t, "pw")
	before, err := unix.FcntlInt(r.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := drainPipe(int(r.Fd()), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if after, _ := unix.FcntlInt(r.Fd(), unix.F_GETFL, 0); after != before {
		t.Errorf("flags %#x became %#x", before, after)
	}
}
