// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"os"
	"strings"

	"github.com/pamprompt/pamprompt/api/transport"
)

// IsReal reports whether an address list leads, or may lead, to the machine's
// own system bus: one of its addresses names the same socket, by whatever path.
func IsReal(address string) bool {
	return leadsTo(address, "/run/dbus/system_bus_socket") || leadsTo(address, "/var/run/dbus/system_bus_socket")
}

func leadsTo(address, socket string) bool {
	real, realErr := os.Stat(socket)
	for one := range strings.SplitSeq(address, ";") {
		name, err := transport.SocketName(one)
		if err != nil {
			continue
		}
		if name == socket {
			return true
		}
		if st, err := os.Stat(name); err == nil && realErr == nil && os.SameFile(st, real) {
			return true
		}
	}
	return false
}
