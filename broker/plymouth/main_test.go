// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// In the environment of the test binary: it is in namespaces of its own, or
// why it is not.
const (
	insideEnv = "PAMPROMPT_TEST_INSIDE"
	listenEnv = "PAMPROMPT_TEST_LISTEN" // a child that only listens
)

// Plymouth's socket belongs to the network namespace. When plymouthd quits it
// signals process 1, whichever that is, and it opens screens that it finds in
// /dev. So all tests run where there is nothing of the machine.
const privateMachine = `set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/dev/pts
for name in null zero random urandom; do
	: >/run/dev/$name
	mount --bind /dev/$name /run/dev/$name
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts /run/dev/pts
ln -s pts/ptmx /run/dev/ptmx
mount --rbind /run/dev /dev
exec "$@"`

func TestMain(m *testing.M) {
	if os.Getenv(listenEnv) != "" {
		listenAndCount()
		return
	}
	if _, inside := os.LookupEnv(insideEnv); !inside {
		os.Exit(runInside())
	}
	goleak.VerifyTestMain(m)
}

// runInside runs this binary with the same arguments in a private machine.
// Where there can be none the tests run here, and those that need it skip.
func runInside() int {
	why := ""
	if out, err := unshare("true").CombinedOutput(); err != nil {
		why = strings.TrimSpace(fmt.Sprintf("%v: %s", err, out))
	}
	args := append([]string{"/proc/self/exe"}, os.Args[1:]...)
	cmd := exec.Command(args[0], args[1:]...)
	if why == "" {
		args[0], _ = os.Executable()
		cmd = unshare(args...)
	}
	cmd.Env = append(cmd.Environ(), insideEnv+"="+why)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the thread is the parent that Pdeathsig means
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// unshare is a command in a private machine, which ends with the command.
func unshare(args ...string) *exec.Cmd {
	all := append([]string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
		"/bin/sh", "-c", privateMachine, "sh"}, args...)
	cmd := exec.Command("unshare", all...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// needPrivateMachine skips a test that would meet the machine's own plymouthd.
func needPrivateMachine(t *testing.T) {
	t.Helper()
	if why := os.Getenv(insideEnv); why != "" {
		t.Skip("needs namespaces of its own, so run it as root with unshare of the Debian package util-linux: " + why)
	}
}

// run starts a screen. The log is what it says, a line each; stop returns when
// Run has.
func run(t *testing.T) (s *Screen, log *journal, stop func()) {
	t.Helper()
	log = newJournal()
	s = New(log.logger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return s, log, stop
}
