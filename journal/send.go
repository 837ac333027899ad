// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// socketPath is where the journal takes entries.
const socketPath = "/run/systemd/journal/socket"

const (
	firstRetry = time.Millisecond
	lastRetry  = 200 * time.Millisecond
)

// encode makes an entry of the journal's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func encode(message string, p journal.Priority, fields map[string]string) []byte {
	var b bytes.Buffer
	appendField(&b, "PRIORITY", strconv.Itoa(int(p)))
	appendField(&b, "MESSAGE", message)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		appendField(&b, name, fields[name])
	}
	return b.Bytes()
}

func appendField(b *bytes.Buffer, name, value string) {
	if !strings.Contains(value, "\n") {
		fmt.Fprintf(b, "%s=%s\n", name, value)
		return
	}
	fmt.Fprintf(b, "%s\n", name)
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	fmt.Fprintf(b, "%s\n", value)
}

// sender sends entries to the socket of a journal. It is used by one goroutine.
type sender struct {
	path string
	fd   int // of a socket; -1 before the first
}

// send sends an entry, and waits for as long as the journal's queue is full: one that
// hangs, or is stopped. Whoever sends is not told by the kernel when there is room
// again if none of its own is in the queue, so it is tried.
func (s *sender) send(entry []byte) error {
	if s.fd < 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		s.fd = fd
	}
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := unix.Sendto(s.fd, entry, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: s.path})
		if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
			err = s.sendLong(entry)
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return err
		}
		time.Sleep(pause)
	}
}

// sendLong sends an entry that no datagram holds, in a sealed memfd.
func (s *sender) sendLong(entry []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for rest := entry; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return unix.Sendmsg(s.fd, nil, unix.UnixRights(fd), &unix.SockaddrUnix{Name: s.path}, unix.MSG_NOSIGNAL)
}
