// SPDX-License-Identifier: Apache-2.0

// Package libpamc checks the packets of binary prompts, those of Linux-PAM's libpamc
// (security/pam_client.h): four bytes of length, most significant first and themselves
// included, one byte of control, the data. Whoever gets one believes the length that it
// reads there, so one that is not the packet's own would make it read memory behind it.
package libpamc

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/pamprompt/pamprompt/api/secret"
)

// Header and Max bound the length of a packet, in bytes.
const (
	Header = 5
	Max    = 64 << 10
)

// ErrPacket says that something is no packet.
var ErrPacket = errors.New("it is not the base64 of one whole packet of libpamc: four bytes of length, one of control, the data")

var errLength = fmt.Errorf("the length of a packet of libpamc is not %d to %d", Header, Max)

// length takes the length out of the first four bytes of a packet.
func length(head []byte) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if n < Header || n > Max {
		return 0, errLength
	}
	return int(n), nil
}

// Check tells whether all bytes are one whole packet.
func Check(packet []byte) error {
	if len(packet) < Header {
		return ErrPacket
	}
	if n, err := length(packet[:4]); err != nil || n != len(packet) {
		return ErrPacket
	}
	return nil
}

// Copy copies the packet of a module. Its length is all that says where it ends, so
// nothing behind the first four bytes is read before that is known to be in bounds.
func Copy(p unsafe.Pointer) ([]byte, error) {
	if p == nil {
		return nil, errors.New("there is no packet")
	}
	n, err := length(unsafe.Slice((*byte)(p), 4))
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), unsafe.Slice((*byte)(p), n)...), nil
}

// Decode takes the packet for a module out of a base64 answer. The caller wipes it. It
// fails with ErrPacket, and otherwise when there is no memory for it that can be
// locked.
func Decode(text []byte) (*secret.Secret, error) {
	packet, err := secret.New(min(base64.StdEncoding.DecodedLen(len(text)), secret.Max))
	if err != nil {
		return nil, err
	}
	n, err := base64.StdEncoding.Strict().Decode(packet.Bytes(), text)
	packet.Truncate(n)
	if err == nil && Check(packet.Bytes()) == nil {
		return packet, nil
	}
	packet.Wipe()
	return nil, ErrPacket
}
