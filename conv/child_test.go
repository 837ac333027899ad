// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/tests/modules"
)

// mayOpen has a process of a user open a file for reading.
func mayOpen(t testing.TB, uid uint32, path string) bool {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `exec < "$0"`, path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: usersGID}}
	said, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(said), "Permission denied") {
		t.Fatalf("open %s: %v, %s", path, err, said)
	}
	return err == nil
}

// Before it is the program, the child is a copy of the worker, with whatever modules
// keep of answers. It has the user's identity then, and that would let the user's
// other processes look into it.
func TestTheUserDoesNotSeeIntoTheChildBeforeItIsTheProgram(t *testing.T) {
	newEtc(t)
	dir := t.TempDir()
	says, waits := held(t, filepath.Join(dir, "says"), "CHILD_HOLD_SAYS"), held(t, filepath.Join(dir, "waits"), "CHILD_HOLD_WAITS")
	t.Setenv("LD_PRELOAD", modules.ChildHold(t))
	s := command(t, stack(t), "anna", shell("echo; read -r line"))
	t.Setenv("LD_PRELOAD", "")
	pid, err := bufio.NewReader(says).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	process := filepath.Join("/proc", strings.TrimSpace(pid))
	for _, file := range []string{"mem", "environ", "auxv"} {
		if mayOpen(t, annaUID, filepath.Join(process, file)) {
			t.Errorf("anna may read /proc/PID/%s of the child", file)
		}
	}
	if _, err := waits.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if leader := s.opened(); strconv.Itoa(leader) != filepath.Base(process) {
		t.Errorf("the command is process %d and not %s", leader, pid)
	}
	s.line()
	if !mayOpen(t, annaUID, filepath.Join(process, "environ")) {
		t.Error("anna may not read /proc/PID/environ of the program") // the test would see nothing
	}
	_ = s.in.Close()
	s.ends("exited 1", "closed 0 the command ended with status 1")
}

// held is a fifo that child_hold finds by a variable.
func held(t *testing.T, path, variable string) *os.File {
	t.Helper()
	fifo(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	t.Setenv(variable, path)
	return f
}
