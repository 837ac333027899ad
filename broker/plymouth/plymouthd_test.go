// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
)

// splash is a real plymouthd, whose screen is a terminal of ours. On that
// terminal it also says what it does.
type splash struct {
	*journal
	cmd *exec.Cmd
}

// Themes that need no screen with pixels. Details has no splash at all: it is
// what Plymouth shows of a boot without "splash" on the kernel's command line.
const (
	details = "nosplash"
	text3   = "splash plymouth.splash=text" // three dots that move
)

// startPlymouthd returns when the splash is shown.
func startPlymouthd(t *testing.T, theme string) *splash {
	t.Helper()
	needPrivateMachine(t)
	program, err := exec.LookPath("plymouthd")
	if err != nil {
		t.Skipf("%v: the Debian package plymouth has it", err)
	}
	p := &splash{journal: newJournal()}
	keys, tty := pty.Open(t)
	// With a debug file, which is written at the end and else in /var/log, it
	// says on the terminal what it does.
	p.cmd = exec.Command(program, "--no-daemon", "--no-boot-log", "--mode=boot", "--tty="+tty.Name(),
		"--debug", "--debug-file="+filepath.Join(t.TempDir(), "debug"),
		"--kernel-command-line=plymouth.ignore-serial-consoles plymouth.ignore-udev "+theme)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(p, keys)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_ = tty.Close()
		_ = keys.Close()
		<-over
		if t.Failed() {
			t.Logf("plymouthd wrote %s", p.all)
		}
	})
	p.see(t, "entering event loop")
	p.client(t, "show-splash")
	p.client(t, "--ping")
	return p
}

// client runs Plymouth's own client.
func (p *splash) client(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("plymouth", args...).CombinedOutput(); err != nil {
		t.Fatalf("plymouth %v: %v\n%s", args, err, out)
	}
}

// stop stops plymouthd, so that it neither reads nor replies, until resume.
func (p *splash) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("plymouthd has not stopped: %v, status %v", err, status)
	}
}

func (p *splash) resume(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
