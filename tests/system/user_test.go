// SPDX-License-Identifier: Apache-2.0

package system_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/tests/system"
)

// The bus takes the connection for the user's own, of a process that there is.
func TestTheBusSeesAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be several users")
	}
	for _, bus := range system.Buses {
		t.Run(string(bus), func(t *testing.T) {
			m := system.StartMachine(t, system.MachineOptions{Bus: bus})
			for _, who := range []system.Identity{
				system.Opener, {UID: system.Other.UID, GID: system.Other.GID, Groups: []uint32{60007, 60008}}, system.Distant,
			} {
				u := m.Join(t, who)
				credentials := credentialsOf(t, u.Conn, u.Names()[0])
				groups, _ := credentials["UnixGroupIDs"].Value().([]uint32)
				if credentials["UnixUserID"].Value() != who.UID || !slices.Contains(groups, who.GID) || credentials["ProcessID"].Value() != uint32(u.PID) {
					t.Errorf("uid %d, process %d: the bus says %v", who.UID, u.PID, credentials)
				}
				for _, group := range who.Groups {
					if !slices.Contains(groups, group) {
						t.Errorf("uid %d: the bus does not know of group %d: %v", who.UID, group, groups)
					}
				}
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", u.PID)); err != nil {
					t.Error(err)
				}
				u.EndProcess()
				if err := u.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
					t.Errorf("without its process the connection is of no use: %v", err)
				}
				u.Leave(t)
			}
		})
	}
}

func credentialsOf(t *testing.T, conn *dbus.Conn, name string) map[string]dbus.Variant {
	t.Helper()
	credentials := map[string]dbus.Variant{}
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionCredentials", 0, name).Store(&credentials); err != nil {
		t.Fatal(err)
	}
	return credentials
}
