// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/conv/convtest"
)

// needLimit skips the test where so little memory may be locked that the worker
// does without, or where nobody could see it.
func needLimit(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can look into a worker")
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < leastLimit {
		t.Skipf("RLIMIT_MEMLOCK is %d bytes: raise it to %d (ulimit -l)", limit.Cur, leastLimit)
	}
}

func TestTheMemoryOfModulesIsLocked(t *testing.T) {
	needLimit(t)
	process, _ := idle(t, stack(t, ""))
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	locked := map[string]uintptr{}
	var name string
	var size uintptr
	for line := range strings.Lines(string(smaps)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			fields := strings.Fields(line)
			name, size = fields[len(fields)-1], to-from
		}
		// proc(5): lo is VM_LOCKED.
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && slices.Contains(strings.Fields(flags), "lo") {
			locked[name] += size
		}
	}
	for name, least := range map[string]uintptr{"[heap]": 1 << 20, "[stack]": 64 << 10} {
		if locked[name] < least {
			t.Errorf("%d KiB of %s are locked, not %d", locked[name]>>10, name, least>>10)
		}
	}
}

// TestAModuleWithTheUsersIdentity gets memory, and an answer as long as answers
// may be: with root's identity went CAP_IPC_LOCK.
func TestAModuleWithTheUsersIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can take on another identity")
	}
	process, peer := idle(t, stack(t, "auth:seteuid=65534 auth:grow auth:ask=secret,x auth:grow auth:seteuid=0"))
	said := convtest.Play(peer, convtest.Start("test", "root"), convtest.Answer(strings.Repeat("x", 500)))
	if !slices.Contains(said, "opened []") {
		t.Errorf("the worker said %q", said)
	}
	if end := process.Wait(); end != "exit status 0" {
		t.Errorf("the worker ended with %s", end)
	}
}

func TestWhatModulesFreeIsOverwritten(t *testing.T) {
	freed := filepath.Join(t.TempDir(), "freed")
	broker, _ := startPool(t, 1, "auth:freed="+freed)
	convtest.Play(broker.Accept(), convtest.Start("test", "root"))
	got, err := os.ReadFile(freed)
	if err != nil {
		t.Fatal(err)
	}
	if want := "64: overwritten\n600: overwritten\n5000: overwritten\n40000: overwritten\n"; string(got) != want {
		t.Errorf("in what was freed there is\n%snot\n%s", got, want)
	}
}

// TestWhatModulesLeaveOnTheStackIsWiped in the next phase, not in the same one.
func TestWhatModulesLeaveOnTheStackIsWiped(t *testing.T) {
	dir := stack(t, "auth:leave auth:look={dir}/look account:look={dir}/look")
	_, peer := idle(t, dir)
	convtest.Play(peer, convtest.Start("test", "root"))
	got, err := os.ReadFile(filepath.Join(dir, "look"))
	if err != nil || string(got) != "left\nwiped\n" {
		t.Errorf("on the stack there is %q (%v)", got, err)
	}
}

// TestAnIdleWorkerIsNotDumpable, so that not even another process of its own user
// can look into it: the kernel gives its files in /proc to root then.
func TestAnIdleWorkerIsNotDumpable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a worker as somebody else")
	}
	const nobody = 65534
	broker, dir := convtest.Listen(t), stack(t, "")
	// Everything is in directories that are root's alone.
	for _, path := range []string{broker.Socket, dir, os.Args[0]} {
		for ; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
			info, err := os.Stat(path)
			if err == nil && (info.Mode().Perm()&0o005 != 0o005 || path == broker.Socket) {
				err = os.Chmod(path, info.Mode().Perm()|0o007)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	process := convtest.RunAs(t, nobody, "--idle", "--socket", broker.Socket, "--pam-dir", dir)
	broker.Accept()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/mem", process.Pid), &st); err != nil || st.Uid != 0 {
		t.Errorf("the memory of a worker belongs to uid %d (%v)", st.Uid, err)
	}
}

// TestModulesThatMakeTheProcessDumpable by a change of its identity: it is no more
// when libpam has an answer, nor in the next phase.
func TestModulesThatMakeTheProcessDumpable(t *testing.T) {
	dir := stack(t, "auth:dumpable auth:ask=secret,x auth:facts={dir}/auth account:dumpable setcred:facts={dir}/setcred")
	_, peer := idle(t, dir)
	convtest.Play(peer, convtest.Start("test", "root"), convtest.Answer("x"))
	for _, phase := range []string{"auth", "setcred"} {
		facts, err := os.ReadFile(filepath.Join(dir, phase))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(facts), "\ndumpable 0\n") {
			t.Errorf("in %s modules found\n%s", phase, facts)
		}
	}
}
