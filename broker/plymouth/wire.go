// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/pamprompt/pamprompt/api/transport"
)

// address is in the abstract namespace: Go puts a NUL byte for the @, and none
// behind.
const address = "@/org/freedesktop/plymouthd"

// patience is how long an exchange with plymouthd may take, from the connect on.
const patience = 2 * time.Second

// maxText is the longest text, in bytes: one byte says how long it is, its
// final NUL included.
const maxText = 254

// Requests and replies, as in ply-boot-protocol.h of Plymouth. Each request has
// one reply, which comes when it is done.
const (
	showMessage = 'M'
	hideMessage = 'm'
	argument    = 0x02 // follows a request that has one
	ack         = 0x06
)

var errNotRunning = errors.New("plymouthd does not run")

// strangerError is that somebody else listens in plymouthd's place. Any user
// can while it does not run: abstract names have no permissions.
type strangerError struct{ uid uint32 }

func (e strangerError) Error() string {
	return fmt.Sprintf("the socket of plymouthd is held by uid %d, want 0 or %d", e.uid, os.Geteuid())
}

// request is one thing that plymouthd is to do.
type request struct {
	kind byte
	line string
}

// tell has plymouthd do some things, in one connection that ends when ctx does
// or when patience is over. All requests leave before the first reply comes: so
// a plymouthd that is stopped does them when it goes on, though we have left.
// It says whether they have left.
func tell(ctx context.Context, requests ...request) (sent bool, err error) {
	conn, err := dial()
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	var packet []byte
	for _, r := range requests {
		packet = append(packet, r.kind, argument, byte(len(r.line)+1))
		packet = append(append(packet, r.line...), 0)
	}
	if _, err := conn.Write(packet); err != nil {
		return false, err
	}
	replies := make([]byte, len(requests))
	if _, err := io.ReadFull(conn, replies); err != nil {
		return true, err
	}
	for _, reply := range replies {
		if reply != ack {
			return true, fmt.Errorf("plymouthd replied %#02x, want %#02x", reply, ack)
		}
	}
	return true, nil
}

// dial connects to plymouthd. That does not wait: sockets of Go do not block,
// and then a full backlog is an error.
func dial() (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: address})
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// checkPeer makes sure that whoever called listen was root, or is us.
func checkPeer(conn *net.UnixConn) error {
	cred, err := transport.Credentials(conn)
	if err != nil {
		return fmt.Errorf("who is on the other side of plymouthd's socket: %w", err)
	}
	if cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) {
		return strangerError{cred.Uid}
	}
	return nil
}
