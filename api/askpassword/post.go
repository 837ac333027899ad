// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const randomBytes = 8

// Posted is a request of ours that agents can see. Close takes it back.
type Posted struct {
	place  *Place
	id     string // the random part of its names
	socket *os.File
	file   *os.File // open for as long as agents may look at it

	once   sync.Once
	closed chan struct{}
	warned bool // that somebody sends what is no answer; the reader's
	waits  bool // for memory, and the log knows; the reader's
}

// Post puts a question where agents look: first its socket, then its file,
// under a name that is nobody's. Socket is filled in; the rest of the request
// is the caller's. Each reply of an agent that may answer is handed to replied,
// one after the other, from a goroutine that ends with Close. The identity of
// the calling thread owns the files.
func (p *Place) Post(r Request, replied func(Reply)) (*Posted, error) {
	var random [randomBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	q := &Posted{place: p, id: ours + hex.EncodeToString(random[:]), closed: make(chan struct{})}
	if err := p.hold(); err != nil {
		return nil, fmt.Errorf("post a request into %s: %w", p.path, err)
	}
	if err := q.bind(); err != nil {
		p.release(1, false)
		return nil, fmt.Errorf("make a socket for the answer in %s: %w", p.path, err)
	}
	r.Socket = filepath.Join(p.path, sockPrefix+q.id)
	if err := q.write(r.Format()); err != nil {
		q.Close()
		return nil, fmt.Errorf("write a request into %s: %w", p.path, err)
	}
	raw, err := q.socket.SyscallConn()
	if err != nil {
		q.Close()
		return nil, err
	}
	go q.read(raw, replied)
	return q, nil
}

// Name is the name of the request file in its directory.
func (q *Posted) Name() string { return askPrefix + q.id }

// Close removes the file and the socket. It may be called more than once, and
// on nil. A reply that was received before can still be on its way to replied.
func (q *Posted) Close() {
	if q == nil {
		return
	}
	q.once.Do(func() {
		q.place.remove(askPrefix + q.id)
		q.place.remove(sockPrefix + q.id)
		close(q.closed)
		_ = q.socket.Close()
		if q.file != nil {
			_ = q.file.Close()
		}
		q.place.release(1, false)
	})
}

// bind makes a socket that only its owner may write to. Credentials are asked
// for before it has a name: a datagram has those that were asked for when it
// was sent.
func (q *Posted) bind() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	q.socket = os.NewFile(uintptr(fd), sockPrefix+q.id)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Fchmod(fd, 0o600) // becomes the mode of its name, less the umask
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: q.place.within(sockPrefix + q.id)})
	}
	if err != nil {
		_ = q.socket.Close()
		return err
	}
	if err := q.permit(); err != nil {
		q.place.remove(sockPrefix + q.id)
		_ = q.socket.Close()
		return err
	}
	return nil
}

// permit gives the socket's name the mode that an umask may have taken from it:
// modules set the umask of their process.
func (q *Posted) permit() error {
	fd, err := unix.Openat(int(q.place.dir.Fd()), sockPrefix+q.id, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o600)
}

// write writes the file under a temporary name and gives it its own without
// replacing another: agents never see half of it. It stays open, as systemd's
// own do: closing it is a change of its own to whoever watches the directory,
// and an agent that hears of two asks a second time when it has been answered.
func (q *Posted) write(text []byte) error {
	dir := int(q.place.dir.Fd())
	temp := tempPrefix + q.id
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	q.file = os.NewFile(uintptr(fd), temp)
	_, err = q.file.Write(text)
	err = errors.Join(err, unix.Fchmod(fd, 0o644), flush(fd))
	if err == nil {
		err = unix.Renameat2(dir, temp, dir, askPrefix+q.id, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		q.place.remove(temp)
	}
	return err
}

// flush closes a duplicate: on some file systems that tells of a full disk.
func flush(fd int) error {
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(other)
}
