// SPDX-License-Identifier: Apache-2.0

// Package secret holds an answer while a process has to have it: in memory
// that is locked, left out of core dumps and wiped, and on its way to another
// process in a sealed memfd. It refuses to print one. secret.go is the memory,
// descriptor.go the ways in and out through descriptors.
//
// It relies on the kernel writing the bytes straight into that memory and
// reading them there, and on nobody copying them elsewhere: the garbage
// collector knows nothing of the mapping and moves nothing of it. Registers, and
// the stack on which a signal that comes at that moment saves them, it does not
// wipe. runtime/secret would, for the Go code below its Do; in Go 1.26 that is
// an experiment (GOEXPERIMENT=runtimesecret) for two processors, which does
// nothing for memory mapped like this, for other goroutines or for C, and libpam
// is C. So it is not used, and tests/memory looks at what is left.
package secret

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"
)

// Max is the longest secret, in bytes.
const Max = 64 << 10

// ErrTooLong says that a secret is longer than Max.
var ErrTooLong = errors.New("longer than 64 KiB")

// ErrNoMemory says that no memory can be locked at present: for want of it, or because
// RLIMIT_MEMLOCK allows no more. Nothing was read then.
var ErrNoMemory = errors.New("lock memory for a secret (is RLIMIT_MEMLOCK too low?)")

// Secret is an answer in memory of its own: MAP_LOCKED, MADV_DONTDUMP, wiped by
// Wipe. Whoever acquires one wipes it: defer s.Wipe() on the next line. It must
// not be copied into a string, a map key or an error.
type Secret struct {
	mu  sync.Mutex
	mem []byte // the whole mapping; nil once wiped
	n   int    // how much of it is the secret
}

// New returns a secret of n bytes, all zero, to be filled through Bytes. It
// fails with ErrTooLong when n is over Max, and with ErrNoMemory.
func New(n int) (*Secret, error) {
	if n < 0 || n > Max {
		return nil, ErrTooLong
	}
	page := unix.Getpagesize()
	size := (n/page + 1) * page // at least one byte more than n, so that the end is always a NUL
	// Locked from the first byte on, and not by mlock(2), which containers of
	// systemd-nspawn forbid. That the kernel may lock a page only as it is
	// written to does not matter: there is no secret in it before.
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTDUMP); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("keep a secret out of core dumps: %w", err)
	}
	return &Secret{mem: mem, n: n}, nil
}

// Read takes a secret from r until its end. It fails with ErrTooLong when there
// is more than Max; what was read is wiped then.
func Read(r io.Reader) (*Secret, error) {
	s, err := New(Max)
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(r, s.mem[:Max+1])
	if err == nil {
		s.Wipe()
		return nil, ErrTooLong
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		s.Wipe()
		return nil, err
	}
	s.n = n
	return s, nil
}

// Bytes returns the secret itself, valid until Wipe. It must not be kept.
func (s *Secret) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mem[:s.n:s.n]
}

// Len is the length in bytes; 0 after Wipe.
func (s *Secret) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Truncate makes the secret shorter and wipes what is cut off.
func (s *Secret) Truncate(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < s.n {
		clear(s.mem[n:s.n])
		s.n = n
	}
}

// Wipe overwrites and unmaps the memory. It may be called more than once, and
// on nil.
func (s *Secret) Wipe() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem == nil {
		return
	}
	clear(s.mem)
	_ = unix.Munmap(s.mem)
	s.mem, s.n = nil, 0
}

const redacted = "[secret]"

// Format prints "[secret]" for every verb.
func (s *Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns "[secret]".
func (s *Secret) String() string { return redacted }

// LogValue logs "[secret]".
func (s *Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes "[secret]", in JSON too.
func (s *Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
