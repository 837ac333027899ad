// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"

	"golang.org/x/sys/unix"
)

const words = "correct horse battery staple"

// hold returns a secret that is wiped when the test ends.
func hold(t testing.TB, text string) *Secret {
	t.Helper()
	s, err := New(len(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wipe)
	copy(s.Bytes(), text)
	return s
}

func TestASecretHoldsWhatItWasGiven(t *testing.T) {
	page := unix.Getpagesize()
	for _, n := range []int{0, 1, page - 1, page, page + 1, Max} {
		text := strings.Repeat("x", n)
		s := hold(t, text)
		if s.Len() != n || string(s.Bytes()) != text {
			t.Errorf("a secret of %d bytes holds %d", n, s.Len())
		}
		// C code finds an end, and append does not write behind it.
		if cap(s.Bytes()) != n || s.mem[n] != 0 {
			t.Errorf("there is no end behind %d bytes", n)
		}
	}
	for _, n := range []int{-1, Max + 1} {
		if _, err := New(n); !errors.Is(err, ErrTooLong) {
			t.Errorf("the error of %d bytes is %v", n, err)
		}
	}
}

func TestTheMemoryIsLockedAndLeftOutOfCoreDumps(t *testing.T) {
	s := hold(t, strings.Repeat("x", Max))
	flags := flagsOf(t, s)
	// proc(5): lo is VM_LOCKED, dd is VM_DONTDUMP.
	for _, flag := range []string{"lo", "dd"} {
		if !strings.Contains(" "+flags+" ", " "+flag+" ") {
			t.Errorf("the flags of the memory are %q, without %s", flags, flag)
		}
	}
}

// flagsOf finds the VmFlags of a secret's memory in smaps.
func flagsOf(t testing.TB, s *Secret) string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at := uintptr(unsafe.Pointer(&s.mem[0]))
	inside := false
	for line := range strings.Lines(string(smaps)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return strings.TrimSpace(flags)
		}
	}
	t.Fatal("the memory is not in /proc/self/smaps")
	return ""
}

func TestWipe(t *testing.T) {
	s, err := New(len(words))
	if err != nil {
		t.Fatal(err)
	}
	copy(s.Bytes(), words)
	s.Wipe()
	if s.Len() != 0 || len(s.Bytes()) != 0 {
		t.Error("a wiped secret holds something")
	}
	s.Wipe()
	(*Secret)(nil).Wipe()
}

// TestWipeOverwrites looks at the memory through a second mapping of it: the
// first one is gone.
func TestWipeOverwrites(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Ftruncate(fd, int64(unix.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	s := &Secret{mem: mem, n: len(words)}
	copy(s.Bytes(), words)
	s.Wipe()
	left := make([]byte, len(words))
	if _, err := unix.Pread(fd, left, 0); err != nil || !bytes.Equal(left, make([]byte, len(words))) {
		t.Errorf("%q is left (%v)", left, err)
	}
}

func TestTruncateWipesWhatItCutsOff(t *testing.T) {
	s := hold(t, words)
	s.Truncate(7)
	if string(s.Bytes()) != "correct" || !bytes.Equal(s.mem[7:len(words)], make([]byte, len(words)-7)) {
		t.Errorf("a secret cut to 7 bytes holds %q", s.mem[:len(words)])
	}
	s.Truncate(100)
	if s.Len() != 7 {
		t.Error("a secret became longer")
	}
}

func TestRead(t *testing.T) {
	failed := errors.New("no more")
	for _, test := range []struct {
		name string
		r    io.Reader
		n    int
		err  error
	}{
		{"nothing", strings.NewReader(""), 0, nil},
		{"a word", strings.NewReader(words), len(words), nil},
		{"a word byte by byte", iotest.OneByteReader(strings.NewReader(words)), len(words), nil},
		{"as much as there may be", strings.NewReader(strings.Repeat("x", Max)), Max, nil},
		{"one byte more", strings.NewReader(strings.Repeat("x", Max+1)), 0, ErrTooLong},
		{"what never ends", endless{}, 0, ErrTooLong},
		{"what fails", io.MultiReader(strings.NewReader(words), iotest.ErrReader(failed)), 0, failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Read(test.r)
			defer s.Wipe()
			if !errors.Is(err, test.err) || (err == nil) != (s != nil) {
				t.Fatalf("the error is %v", err)
			}
			if err == nil && s.Len() != test.n {
				t.Errorf("%d bytes were read, not %d", s.Len(), test.n)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// holder is how a secret comes into a log by accident.
type holder struct {
	Name   string
	Answer *Secret
}

func TestNothingPrintsASecret(t *testing.T) {
	s := hold(t, words)
	var printed strings.Builder
	for _, verb := range "vsqdxXobctTpUeEfFgG" {
		for _, flag := range []string{"", "+", "#", " ", "-20", ".3"} {
			format := "%" + flag + string(verb) + "\n"
			fmt.Fprintf(&printed, format, s)
			if verb != 'T' && verb != 'p' { // these print the type and the address
				fmt.Fprintf(&printed, format, holder{"anna", s})
				fmt.Fprintf(&printed, format, []*Secret{s})
				fmt.Fprintf(&printed, format, map[string]any{"answer": s})
			}
		}
	}
	fmt.Fprintln(&printed, s, fmt.Errorf("failed with %w", fmt.Errorf("%v", s)))
	for _, handler := range []slog.Handler{slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil)} {
		slog.New(handler).Info("asked", "answer", s, slog.Group("g", "answer", s), "holder", holder{"anna", s})
	}
	text, err := json.Marshal(map[string]any{"answer": s, "holder": holder{"anna", s}})
	if err != nil {
		t.Fatal(err)
	}
	printed.Write(text)
	for _, word := range append(strings.Fields(words), fmt.Sprintf("%x", "horse"), fmt.Sprintf("%X", "horse"), fmt.Sprint([]byte("horse"))) {
		if strings.Contains(printed.String(), strings.Trim(word, "[]")) {
			t.Errorf("%q was printed", word)
		}
	}
	if !strings.Contains(printed.String(), redacted) {
		t.Error("nothing says that there is a secret")
	}
}
