// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
)

// A binary prompt is a packet of Linux-PAM's libpamc (security/pam_client.h):
// four bytes of length, most significant first and themselves included, one
// byte of control, the data.
const packetHeader = 5

var errPacket = fmt.Errorf("the length of a packet of libpamc is not %d to %d", packetHeader, worker.MaxBinary)

// packetLength takes the length out of the first four bytes of a packet.
func packetLength(head []byte) (int, error) {
	length := binary.BigEndian.Uint32(head)
	if length < packetHeader || length > worker.MaxBinary {
		return 0, errPacket
	}
	return int(length), nil
}

// copyPacket copies the packet of a module. Its length is all that says where
// it ends, so nothing behind the first four bytes is read before that is known
// to be in bounds.
func copyPacket(p unsafe.Pointer) ([]byte, error) {
	if p == nil {
		return nil, errors.New("there is no packet")
	}
	length, err := packetLength(unsafe.Slice((*byte)(p), 4))
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), unsafe.Slice((*byte)(p), length)...), nil
}

// decodePacket takes the packet for a module out of a base64 answer. A module
// believes the length it reads there, so one that is not the packet's own would
// make it read memory behind it.
func decodePacket(text []byte) (*secret.Secret, *refusal) {
	wrong := &refusal{invalidArgument, "the response to a binary prompt is not the base64 of one whole packet of libpamc: four bytes of length, one of control, the data"}
	packet, err := secret.New(min(base64.StdEncoding.DecodedLen(len(text)), secret.Max))
	if err != nil {
		return nil, &refusal{limitExceeded, "there is no memory for the response that can be locked"}
	}
	n, err := base64.StdEncoding.Strict().Decode(packet.Bytes(), text)
	packet.Truncate(n)
	if err == nil && n >= packetHeader {
		if length, err := packetLength(packet.Bytes()[:4]); err == nil && length == n {
			return packet, nil
		}
	}
	packet.Wipe()
	return nil, wrong
}
