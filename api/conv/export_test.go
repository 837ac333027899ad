// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"unsafe"

	"github.com/msteinert/pam/v2"

	"github.com/pamprompt/pamprompt/api/secret"
)

// Lent is the answer that libpam was given last.
func Lent(h *Handler) *secret.Secret { return h.lent }

// Pointer is how a module passes a packet.
func Pointer(packet []byte) pam.BinaryPointer {
	return pam.BinaryPointer(unsafe.Pointer(unsafe.SliceData(packet)))
}
