// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// begin writes as much of an answer as the pipe takes: all of it at once if there is
// room, or can be made. EAGAIN says that the rest has to wait.
func (p *responses) begin(r *response, f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat an answer: %w", err)
	}
	r.answer, r.size, r.sent = f, int64(len(takenSign))+st.Size, 0
	slots := 1 + int(st.Size+int64(p.page)-1)/p.page
	if slots > spareSlots {
		// The kernel may say no to a user with many pipes.
		_, _ = unix.FcntlInt(uintptr(r.fd), unix.F_SETPIPE_SZ, slots*p.page)
	}
	if room, err := unix.FcntlInt(uintptr(r.fd), unix.F_GETPIPE_SZ, 0); err == nil && room >= slots*p.page {
		r.sent, err = p.stage.move(r.fd, f, st.Size, slots*p.page)
		if err != nil && err != unix.EAGAIN && err != errNoStage {
			return err
		}
	}
	return p.more(r)
}

// more goes on with an answer where it stopped. nil is the end of it.
func (p *responses) more(r *response) error {
	for r.sent < r.size {
		var n int64
		var err error
		if sign := int64(len(takenSign)); r.sent < sign {
			var wrote int
			wrote, err = unix.Write(r.fd, []byte(takenSign[r.sent:]))
			n = int64(wrote)
		} else {
			from := r.sent - sign
			n, err = unix.Splice(int(r.answer.Fd()), &from, r.fd, nil, int(r.size-r.sent), unix.SPLICE_F_NONBLOCK)
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("an answer of %d bytes ends after %d", r.size, r.sent)
		default:
			r.sent += n
		}
	}
	return nil
}

// stage is a pipe of our own in which sign and answer come together, so that they get
// into another pipe by one call, whatever happens to us meanwhile. The zero value has
// none yet.
type stage struct {
	made     bool
	from, to int
}

// errNoStage says that there is no room for a stage.
var errNoStage = errors.New("no stage")

// move writes sign and answer into a pipe, and reports how many bytes are there then.
// It is all, unless the pipe has no room for it.
func (s *stage) move(fd int, f *os.File, size int64, room int) (int64, error) {
	if !s.make(room) {
		return 0, errNoStage
	}
	var at int64
	total, err := unix.Write(s.to, []byte(takenSign))
	for err == nil && at < size {
		var n int64
		if n, err = unix.Splice(int(f.Fd()), &at, s.to, nil, int(size-at), unix.SPLICE_F_NONBLOCK); n == 0 {
			break
		}
		total += int(n)
	}
	if err == nil && int64(total) != int64(len(takenSign))+size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		s.close()
		return 0, err
	}
	n, err := unix.Splice(s.from, nil, fd, nil, total, unix.SPLICE_F_NONBLOCK)
	if n < int64(total) {
		s.close() // and what is left in it
	}
	return max(n, 0), err
}

// make sees to it that there is a stage of a size.
func (s *stage) make(room int) bool {
	if !s.made {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return false
		}
		s.made, s.from, s.to = true, fds[0], fds[1]
	}
	if has, err := unix.FcntlInt(uintptr(s.to), unix.F_GETPIPE_SZ, 0); err == nil && has >= room {
		return true
	}
	_, err := unix.FcntlInt(uintptr(s.to), unix.F_SETPIPE_SZ, room)
	return err == nil
}

func (s *stage) close() {
	if s.made {
		_, _ = unix.Close(s.from), unix.Close(s.to)
		s.made = false
	}
}
