// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// MaxForeign is the longest answer that is sent to somebody else's request, in
// bytes: systemd cuts what is longer than its LINE_MAX, and takes the rest for
// the password.
const MaxForeign = 2048

// Errors of Find and of Found.Answer that a caller is meant to handle.
var (
	// ErrGone says that there is no request any more: its file has gone, or
	// nobody listens to its socket.
	ErrGone = errors.New("whoever asked does not ask any more")
	// ErrBusy says that whoever asks does not take answers at present.
	ErrBusy = errors.New("whoever asks has answers enough to read")
)

// Found is a request that somebody else has put into a directory.
type Found struct {
	Request
	Name string // of its file
	UID  uint32 // of the file's owner
	Mark Mark   // tells it from a later file of the same name
}

// Mark identifies a file, and a state of it.
type Mark struct {
	Inode   uint64
	Changed unix.Timespec // its ctime
}

// Find reads a request file. It trusts one that belongs to root or to our own
// uid, and that nobody else may write to. The error says what is wrong with any
// other; its Mark is filled in if there is a file at all, so that a caller need
// not complain twice.
func (p *Place) Find(name string) (Found, error) {
	found := Found{Name: name}
	var st unix.Stat_t
	f, err := p.open(name, 0)
	if errors.Is(err, unix.ENOENT) {
		return found, ErrGone
	}
	if err != nil { // it is a link, or not for us to read
		if unix.Fstatat(int(p.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			found.UID, found.Mark = st.Uid, Mark{st.Ino, st.Ctim}
		}
		return found, err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return found, err
	}
	found.UID, found.Mark = st.Uid, Mark{st.Ino, st.Ctim}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return found, errors.New("it is no regular file")
	case st.Uid != 0 && st.Uid != p.uid:
		return found, fmt.Errorf("it belongs to uid %d, not to root", st.Uid)
	case st.Mode&0o022 != 0:
		return found, errors.New("others than its owner may write to it")
	case st.Size > MaxFile:
		return found, fmt.Errorf("it is longer than %d bytes", MaxFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return found, err
	}
	found.Request, err = Parse(text)
	return found, err
}

// Answer sends an answer to whoever asked, as systemd's agents do. The answer
// stays the caller's to wipe. It does not wait. That it was sent does not say
// that it was the right one: a wrong one is followed by a new request.
func (f Found) Answer(answer *secret.Secret) error {
	if answer.Len() > MaxForeign {
		return secret.ErrTooLong
	}
	return f.send([]byte("+"), answer.Bytes())
}

// Cancel tells whoever asked that there will be no answer.
func (f Found) Cancel() error { return f.send([]byte("-")) }

// send sends one datagram to the socket of a request, which must belong to
// whoever the file belongs to: the name alone could lead anywhere.
func (f Found) send(parts ...[]byte) error {
	path, err := unix.Open(f.Socket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	defer func() { _ = unix.Close(path) }()
	var st unix.Stat_t
	switch err := unix.Fstat(path, &st); {
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s is no socket", f.Socket)
	case st.Uid != f.UID:
		return fmt.Errorf("%s belongs to uid %d, and the request to uid %d", f.Socket, st.Uid, f.UID)
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	to := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", path)}
	if _, err := unix.SendmsgBuffers(s, parts, nil, to, unix.MSG_NOSIGNAL); err != nil {
		return gone(err)
	}
	return nil
}

// gone gives the errors of a socket that is not there, or is not read, their
// names.
func gone(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return ErrGone
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS):
		return ErrBusy
	}
	return fmt.Errorf("send to whoever asked: %w", err)
}
