// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// Ctrl-C, and what stops a service, ends the broker's whole process group. Its
// bus and its pool must outlive it for as long as it takes to close the
// sessions, lingering ones too: nobody could come back to them.
func TestTheWholeGroupOfTheBrokerIsEnded(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			b := &bench{log: t.TempDir() + "/phases"}
			b.System = system.Start(t, system.Options{Stacks: map[string]string{
				"logged": system.Every(modules.Probe(t), "open:log="+b.log, "close:log="+b.log),
			}})
			b.conn = b.Conn(t)
			b.wait(t, b.open(t, b.conn, "logged", linger), "open")
			var pid uint32
			if err := b.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName).Store(&pid); err != nil {
				t.Fatal(err)
			}
			group, err := unix.Getpgid(int(pid))
			if err != nil || group == os.Getpid() {
				t.Fatalf("the group of the broker is %d, %v", group, err)
			}
			if err := unix.Kill(-group, signal); err != nil {
				t.Fatal(err)
			}
			b.Stop(t) // and nothing is left
			if got := b.phases(t); got != "open close" && got != "open close end 0" {
				t.Errorf("the module saw %q", got)
			}
		})
	}
}

// The private bus dies: its broker ends, and closes the sessions first.
func TestThePrivateBusDies(t *testing.T) {
	b := &bench{log: t.TempDir() + "/phases"}
	b.System = system.Start(t, system.Options{Stacks: map[string]string{
		"logged": system.Every(modules.Probe(t), "open:log="+b.log, "close:log="+b.log),
	}})
	b.conn = b.Conn(t)
	b.wait(t, b.open(t, b.conn, "logged", linger), "open")
	var pid uint32
	if err := b.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus").Store(&pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.Ended(t) // by itself
	b.Stop(t)  // and nothing is left
	if got := b.phases(t); got != "open close" && got != "open close end 0" {
		t.Errorf("the module saw %q", got)
	}
}
