// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"cmp"
	"os"
	"strings"

	"github.com/pamprompt/pamprompt/api/transport"
)

const defaultAddress = "unix:path=/run/dbus/system_bus_socket"

// SystemAddress is the address list of the system bus: DBUS_SYSTEM_BUS_ADDRESS
// or the D-Bus Specification's default.
func SystemAddress() string { return cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), defaultAddress) }

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
