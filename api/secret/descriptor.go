// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// NewMemfd returns an empty memfd that can be sealed. The caller closes it.
func NewMemfd() (*os.File, error) {
	fd, err := unix.MemfdCreate("pamprompt-answer", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create a memfd for an answer: %w", err)
	}
	return os.NewFile(uintptr(fd), "memfd:pamprompt-answer"), nil
}

// Sealed reports whether a descriptor is a memfd that nobody can change any
// more. The error says that it is none: only memfds and files of a tmpfs have
// seals.
func Sealed(fd int) (bool, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && got&seals == seals, err
}

// Seal makes a memfd unchangeable, so that what one process checked is what
// the next one reads.
func Seal(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal the memfd of an answer: %w", err)
	}
	return nil
}

// Memfd returns a sealed memfd that holds the secret, positioned at its start.
// The caller closes it and still wipes s.
func (s *Secret) Memfd() (*os.File, error) {
	f, err := NewMemfd()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := f.WriteAt(s.mem[:s.n], 0); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write an answer to a memfd: %w", err)
	}
	if err := Seal(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// FromMemfd takes the secret out of a sealed memfd, from its first byte
// whatever its position is. It fails with ErrTooLong over Max, and when f is
// not a sealed memfd: only there is the size that is checked the size that is
// read, and only there can a read not block. The caller closes f.
func FromMemfd(f *os.File) (*Secret, error) {
	fd := int(f.Fd())
	if sealed, _ := Sealed(fd); !sealed {
		return nil, fmt.Errorf("the descriptor of the answer is not a sealed memfd")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat the descriptor of the answer: %w", err)
	}
	if st.Size > Max {
		return nil, ErrTooLong
	}
	s, err := New(int(st.Size))
	if err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(s.mem[:s.n], 0); err != nil && err != io.EOF {
		s.Wipe()
		return nil, fmt.Errorf("read the descriptor of the answer: %w", err)
	}
	return s, nil
}
