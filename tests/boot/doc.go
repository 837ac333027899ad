// SPDX-License-Identifier: Apache-2.0

// Package boot boots whole systems with the package of pamprompt installed, and
// shows that it does there what it is for. A system is a root file system made by
// debootstrap, kept in $PAMPROMPT_ROOTS (or pamprompt/roots in the user's cache
// directory) and never changed: each test has a layer of its own above it. It runs
// under systemd-nspawn with its own systemd as PID 1. That takes root.
//
//	mkroot.sh   makes a root file system
//	roots.go    has them made, and says what that needs
//	machine.go  a machine: boots, runs commands, ends
//	cgroup.go   its cgroups
//	deb.go      the package
//
// make test runs them last, when nothing else runs, and make test-system runs them alone. They
// take minutes, a mirror of Debian, and a machine on which systemd-nspawn boots.
//
// The tests of a suite share its machine, and run in the order of suite_test.go.
package boot
