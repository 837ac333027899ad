// SPDX-License-Identifier: Apache-2.0

// Package system runs the whole of pamprompt for a test: the programs as they
// are built for users, on a bus of the test's own, with PAM stacks of the
// test's own. It needs no root and no system bus. At the end of a test it
// checks that no process is left, and shows the broker's log if the test failed.
//
// A package whose tests use it has
//
//	func TestMain(m *testing.M) { os.Exit(system.Main(m)) }
//
//	main.go       what stands around all tests of a package; goroutines left
//	build.go      the programs
//	stacks.go     PAM stacks
//	system.go     Start: a broker with --private-bus
//	shared.go     one system for a whole package, examples included
//	onbus.go      StartOnBus: a dbus-daemon, and a broker that can be killed
//	dbusbroker.go StartOnDBusBroker: the same on dbus-broker
//	buspolicy.go  the shipped bus policy, in the form that dbus-broker takes
//	namespace.go  StartInNamespace: an /etc of its own
//	machine.go    StartMachine: bus, polkitd and broker as on a real system; root only
//	systembus.go  its bus, with the policies that are shipped
//	polkit.go     its polkitd, and users who are logged in
//	user.go       Join, As, Command: other users
//	faults.go     the bus ends and comes again; what a process has used
//	await.go      waits for a line of the log, or a file
//	race.go       the race detector in the broker, where the test has it
//	process.go    one program that was started, and what it wrote
//	sessions.go   sessions that a test has left open
//	processes.go  which processes belong to a system, and whether they end
package system
