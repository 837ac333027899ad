// SPDX-License-Identifier: Apache-2.0

// Package boot boots whole systems with the package of pamprompt installed, and
// shows that it does there what it is for. A system is a root file system made by
// debootstrap, kept in $PAMPROMPT_ROOTS (or pamprompt/roots in the user's cache
// directory) and never changed: each test has a layer of its own above it. It runs
// under systemd-nspawn with its own systemd as PID 1, and with no network but its own
// loopback. That takes root.
//
//	mkroot.sh   makes a root file system
//	roots.go    has them made, and says what that needs
//	machine.go  a machine: boots, runs commands, ends
//	cgroup.go   its cgroups
//	terminal.go a person at a terminal of it
//	deb.go      the package
//
//	suite_test.go    the steps of each system, in their order; some are known by a letter, and
//	                 print what they saw: b is for pamprompt-client run
//	service_test.go  the service, its reload, its upgrade
//	removal_test.go  the end of the package
//	modules_test.go  what the unit of the workers leaves to modules
//	group_test.go    directories and a group that systemd makes
//	polkit_test.go   d: who sits at the machine
//	linger_test.go   a: homes that are unlocked without anybody logged in
//	factors_test.go  c: a second factor
//	askers_test.go   f: programs that run PAM themselves, and have nobody to ask
//	module_test.go   the same with pam_pamprompt.so, and with the broker away
//	reboot_test.go   e: reboots, and homes that are unlocked at boot
//
// make test runs them last, when nothing else runs, and make test-system runs them alone. They
// take minutes, a mirror of Debian, and a machine on which systemd-nspawn boots.
//
// The tests of a suite share its machine, and run in the order of suite_test.go.
package boot
