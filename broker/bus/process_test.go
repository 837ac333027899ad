// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pids"
)

func TestTheUnitOfACgroup(t *testing.T) {
	for _, c := range []struct{ name, cgroup, want string }{
		{"a service", "0::/system.slice/cron.service\n", "cron.service"},
		{"below several slices", "0::/a.slice/a-b.slice/a-b-c.slice/x@y.service\n", "x@y.service"},
		{"a delegated one", "0::/system.slice/pamprompt-worker.service/worker-7\n", "pamprompt-worker.service"},
		{"a unit that is called like a kernel file", "0::/system.slice/_cgroup.service\n", "cgroup.service"},
		{"a slice that is called like a kernel file", "0::/_cpu.slice/x.service\n", "x.service"},
		{"a login session", "0::/user.slice/user-1000.slice/session-2.scope\n", "session-2.scope"},
		{"a user's own service", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/cron.service\n", "user@1000.service"},
		{"a container's service", "0::/machine.slice/systemd-nspawn@a.service/payload/system.slice/cron.service\n", "systemd-nspawn@a.service"},
		{"what a user's service calls itself, without the manager", "0::/app/system.slice/cron.service\n", ""},
		{"the manager itself", "0::/init.scope\n", "init.scope"},
		{"beside hierarchies of version 1", "1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n", "b.service"},
		{"version 1 alone", "1:name=systemd:/system.slice/a.service\n2:cpu:/system.slice/a.service\n", ""},
		{"a controller of version 1 that is called like the line", "10::/system.slice/a.service\n", ""},
		{"nothing", "", ""},
		{"the root", "0::/\n", ""},
		{"a slice alone", "0::/system.slice\n", ""},
		{"a slice that has an instance", "0::/a@b.slice/x.service\n", ""},
		{"a template", "0::/system.slice/getty@.service\n", ""},
		{"no prefix", "0::/system.slice/@x.service\n", ""},
		{"no name", "0::/system.slice/.service\n", ""},
		{"no type", "0::/system.slice/cron\n", ""},
		{"a type there is not", "0::/system.slice/cron.daemon\n", ""},
		{"a blank", "0::/system.slice/cron x.service\n", ""},
		{"a cgroup that was removed", "0::/system.slice/cron.service (deleted)\n", ""},
		{"outside of our namespace", "0::/../system.slice/cron.service\n", ""},
		{"a name that is too long", "0::/" + strings.Repeat("x", 248) + ".service\n", ""},
		{"a name that is as long as it may be", "0::/" + strings.Repeat("x", 247) + ".service\n", strings.Repeat("x", 247) + ".service"},
		{"a name that is not UTF-8", "0::/system.slice/\xff.service\n", ""},
	} {
		if got := systemUnit(c.cgroup); got != c.want {
			t.Errorf("%s: the unit of %q is %q, want %q", c.name, c.cgroup, got, c.want)
		}
	}
}

func FuzzSystemUnit(f *testing.F) {
	f.Fuzz(func(t *testing.T, cgroup string) {
		unit := systemUnit(cgroup)
		if unit == "" {
			return
		}
		if kind := unitKind(unit); kind == "" || kind == "slice" {
			t.Errorf("%q is the unit of %q", unit, cgroup)
		}
		if strings.ContainsAny(unit, "/\n\x00 ") || !strings.Contains(cgroup, "/"+unit) && !strings.Contains(cgroup, "/_"+unit) {
			t.Errorf("%q is the unit of %q, and no part of it", unit, cgroup)
		}
		if !strings.HasPrefix(cgroup, "0::/") && !strings.Contains(cgroup, "\n0::/") {
			t.Errorf("%q is the unit of %q, which has no unified hierarchy", unit, cgroup)
		}
	})
}

// unitCgroup makes a cgroup of the unified hierarchy by the name of a unit, and
// returns the function that puts processes into it.
func unitCgroup(t *testing.T, unit string) func(pid int) {
	t.Helper()
	root := ""
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			root = fields[1]
		}
	}
	// Below our own, of which others may be the root.
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	path := "none"
	for line := range strings.Lines(string(own)) {
		if below, ok := strings.CutPrefix(line, "0::/"); ok {
			path = strings.TrimSuffix(below, "\n")
		}
	}
	if root == "" || path != "" {
		t.Skip("this needs the root of a unified cgroup hierarchy: run it as root on a machine that has /sys/fs/cgroup of type cgroup2")
	}
	dir := filepath.Join(root, unit)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("this needs cgroups that can be made: %v: run it as root", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return func(pid int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// startCat starts a process that ends when the test does, or by end.
func startCat(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { _ = stdin.Close(); _ = cmd.Wait() }
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

func openPidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestTheUnitOfAProcess(t *testing.T) {
	enter := unitCgroup(t, "pamprompt-test.service")
	pid, end := startCat(t)
	pinned := pin(uint32(pid), openPidfd(t, pid))
	defer pinned.close()
	loose := pin(uint32(pid), -1)
	if unit := pinned.unit(); unit != "" {
		t.Errorf("before it enters the unit it is in %q", unit)
	}
	enter(pid)
	if unit := pinned.unit(); unit != "pamprompt-test.service" {
		t.Errorf("the unit of a pinned process is %q", unit)
	}
	if unit := loose.unit(); unit != "" {
		t.Errorf("the unit of a process that is not pinned is %q", unit)
	}
	for _, p := range []*process{&pinned, &loose} {
		if unit, comm := p.describe(); unit != "pamprompt-test.service" || comm != "cat" {
			t.Errorf("pinned %v: it is described as %q in %q", p.pidfd != nil, comm, unit)
		}
	}
	end()
	for _, p := range []*process{&pinned, &loose} {
		if unit, comm := p.describe(); unit != "" || comm != "" || p.unit() != "" {
			t.Errorf("pinned %v: one that has ended is described as %q in %q", p.pidfd != nil, comm, unit)
		}
	}
}

// CVE-2019-6133 of polkit: the number of a process that has ended comes to mean
// another.
func TestAnotherProcessOfTheSameNumberIsNotMeant(t *testing.T) {
	enter := unitCgroup(t, "pamprompt-reuse.service")
	pid, end := startCat(t)
	pinned := pin(uint32(pid), openPidfd(t, pid))
	defer pinned.close()
	loose := pin(uint32(pid), -1)
	loose.started-- // two processes may start in one tick of the clock, but for people
	end()
	kill := pids.StartAs(t, pid)
	enter(pid)
	if unit, _ := DescribeProcess(uint32(pid)); unit != "pamprompt-reuse.service" {
		t.Fatalf("the new process is in %q: the test shows nothing", unit)
	}
	if unit := pinned.unit(); unit != "" {
		t.Errorf("the unit of the one that has ended is %q", unit)
	}
	for _, p := range []*process{&pinned, &loose} {
		if unit, comm := p.describe(); unit != "" || comm != "" {
			t.Errorf("pinned %v: the one that has ended is described as %q in %q", p.pidfd != nil, comm, unit)
		}
	}
	kill()
}

func TestWhatADescriptorSaysOfItsProcess(t *testing.T) {
	pid, end := startCat(t)
	fd := openPidfd(t, pid)
	if got := pidOf(fd); got != int64(pid) {
		t.Errorf("the process of a pidfd is %d, not %d", got, pid)
	}
	end()
	if got := pidOf(fd); got > 0 {
		t.Errorf("the process of a pidfd that has ended is %d", got)
	}
	if got := pidOf(-1); got != 0 {
		t.Errorf("the process of no descriptor is %d", got)
	}
}

func TestStartTime(t *testing.T) {
	if startTime(uint32(os.Getpid())) == 0 {
		t.Error("we have none")
	}
	if got := startTime(0); got != 0 {
		t.Errorf("that of nobody is %d", got)
	}
	// A name may look like what follows it.
	odd := filepath.Join(t.TempDir(), "a) S 1 (b")
	if err := os.Symlink("/bin/cat", odd); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(odd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = cmd.Wait() }()
	own, its := startTime(uint32(os.Getpid())), startTime(uint32(cmd.Process.Pid))
	if its < own || its == 0 {
		t.Errorf("that of a process with an odd name is %d, before our %d", its, own)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"cat":                    "cat",
		"a\x1b[2Jb\x7f\n":        "a?[2Jb??",
		"\xffx":                  "?x",
		strings.Repeat("x", 300): strings.Repeat("x", 255),
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestWhichProcessesEnd: one that has ended and nobody has waited for is not there any more.
func TestWhichProcessesEnd(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	pidfd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		t.Fatal(err)
	}
	pinned, numbered := pin(pid, pidfd), pin(pid, -1)
	defer pinned.close()
	if pinned.pidfd == nil || unix.Close(pidfd) != nil {
		t.Fatal("it is not pinned")
	}
	if pinned.ending() || numbered.ending() {
		t.Error("a process that waits is about to end")
	}
	_ = in.Close()
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if !pinned.ending() || !numbered.same() || !numbered.ending() {
		t.Error("one that has ended goes on")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !pinned.ending() || !numbered.ending() || !exiting(pid) {
		t.Error("one that is no more goes on")
	}
	if p := pin(0, -1); p.ending() {
		t.Error("one that nobody knows is about to end")
	}
}
