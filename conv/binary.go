// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"

	"github.com/pamprompt/pamprompt/api/libpamc"
	"github.com/pamprompt/pamprompt/api/secret"
)

// decodePacket takes the packet for a module out of a base64 answer.
func (s *session) decodePacket(text []byte) (*secret.Secret, *refusal) {
	packet, err := libpamc.Decode(text)
	switch {
	case errors.Is(err, libpamc.ErrPacket):
		return nil, &refusal{invalidArgument, "the response to a binary prompt is no packet: " + err.Error()}
	case err != nil:
		return nil, s.short(err)
	}
	return packet, nil
}
