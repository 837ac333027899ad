// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestThroughAMemfd(t *testing.T) {
	for _, text := range []string{"", words, "a\x00b\n", strings.Repeat("x", Max)} {
		f, err := hold(t, text).Memfd()
		if err != nil {
			t.Fatal(err)
		}
		// The position is of no account.
		if _, err := f.Seek(3, 0); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s, err := FromMemfd(f)
			if err != nil {
				t.Fatal(err)
			}
			if string(s.Bytes()) != text {
				t.Errorf("%d bytes came back as %d", len(text), s.Len())
			}
			s.Wipe()
		}
		_ = f.Close()
	}
}

func TestAMemfdIsSealed(t *testing.T) {
	f, err := hold(t, words).Memfd()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("the error of writing is %v", err)
	}
	for _, size := range []int64{0, 100} {
		if err := f.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Errorf("the error of making it %d bytes long is %v", size, err)
		}
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL); !errors.Is(err, unix.EPERM) {
		t.Errorf("the error of a further seal is %v", err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("what is started inherits it")
	}
}

func TestDescriptorsThatAreNoSealedMemfd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(path string) func(testing.TB) *os.File {
		return func(t testing.TB) *os.File {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	for _, test := range []struct {
		name string
		open func(testing.TB) *os.File
	}{
		{"a file", open(path)},
		{"a directory", open(dir)},
		{"a device", open("/dev/zero")},
		{"a pipe", func(t testing.TB) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = w.Close() })
			return r
		}},
		{"a memfd without seals", func(t testing.TB) *os.File {
			f, err := NewMemfd()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}},
		{"a memfd that can still be written", func(t testing.TB) *os.File {
			f, err := NewMemfd()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
				t.Fatal(err)
			}
			return f
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := test.open(t)
			defer func() { _ = f.Close() }()
			if s, err := FromMemfd(f); err == nil {
				s.Wipe()
				t.Error("it was taken")
			}
		})
	}
}

func TestAMemfdThatIsTooLong(t *testing.T) {
	f, err := NewMemfd()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(Max + 1); err != nil {
		t.Fatal(err)
	}
	if err := Seal(f); err != nil {
		t.Fatal(err)
	}
	if _, err := FromMemfd(f); !errors.Is(err, ErrTooLong) {
		t.Errorf("the error is %v", err)
	}
}
