// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/pty"
	"github.com/pamprompt/pamprompt/tests/system"
)

// demo prepares the demo with a temporary directory of its own, which
// must be empty at the end.
func demo(t *testing.T) *exec.Cmd {
	t.Helper()
	needs(t, "oathtool")
	dir := t.TempDir()
	t.Cleanup(func() {
		nothingLeft(t)
		if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
			t.Errorf("the demo left %v", left)
		}
	})
	return withRun(command(t, append(os.Environ(), "PAMPROMPT_BUILD="+system.Build(t).Dir, "TMPDIR="+dir, "TERM=dumb"), root+"/demo/demo.sh"))
}

func TestTheDemoAnswersItselfWithoutATerminal(t *testing.T) {
	cmd := demo(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"Password: sesame\n", "pam_exec got an answer of 6 characters: it is right\n", "One-time password",
		"Message=nobody (demo, \"to show you pamprompt\"): Password:\n", "from another terminal, as root:  systemd-tty-ask-password-agent --query\n", "systemd-reply-password 1 /run/systemd/ask-password/sck.",
		"state:        open\n", "EDITOR=nano\n", `s "closed"`, "Done.",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
}

// terminal is a new terminal, and what was read from it so far.
type terminal struct {
	t      *testing.T
	master *os.File
	seen   string
}

func newTerminal(t *testing.T) (*terminal, *os.File) {
	t.Helper()
	master, slave := pty.Open(t)
	t.Cleanup(func() { _ = master.Close() })
	return &terminal{t: t, master: master}, slave
}

// until reads until the terminal shows text. It returns what stood before and
// keeps what stands behind.
func (m *terminal) until(text string) (before string) {
	m.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(m.seen, text) {
		n, err := m.master.Read(buf)
		if err != nil {
			m.t.Fatalf("the terminal does not show %q: %v\n%s", text, err, m.seen)
		}
		m.seen += string(buf[:n])
	}
	before, m.seen, _ = strings.Cut(m.seen, text)
	return before
}

func (m *terminal) typeText(text string) {
	m.t.Helper()
	if _, err := m.master.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
}

// demoOnATerminal starts the demo on a terminal of its own.
func demoOnATerminal(t *testing.T) (*exec.Cmd, *terminal) {
	t.Helper()
	cmd := demo(t)
	screen, slave := newTerminal(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	return cmd, screen
}

func TestTheDemoAsksOnATerminal(t *testing.T) {
	cmd, screen := demoOnATerminal(t)
	screen.until("  code      ")
	code := strings.TrimSpace(screen.until("\n"))
	screen.until("Password: ")
	screen.typeText("wrong\n")
	screen.until("it is wrong")
	screen.until("Password: ")
	screen.typeText("sesame\n")
	screen.until("it is right")
	screen.until("One-time password")
	screen.typeText(code + "\n")
	screen.until("state:        open")
	screen.until("Done.")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestTheDemoIsAnsweredFromElsewhere does what the demo says can be done: it
// answers as an agent of systemd does, which must see the demo's /run.
func TestTheDemoIsAnsweredFromElsewhere(t *testing.T) {
	cmd, screen := demoOnATerminal(t)
	screen.until("  code      ")
	code := strings.TrimSpace(screen.until("\n"))
	for _, answer := range []string{"sesame", code} {
		screen.until("Socket=")
		socket := strings.TrimSpace(screen.until("\n"))
		screen.until("--query")
		screen.until(": ") // it asks here too
		reply := command(t, os.Environ(), "nsenter", fmt.Sprintf("--target=%d", cmd.Process.Pid), "--mount", "--root",
			"/lib/systemd/systemd-reply-password", "1", socket)
		reply.Stdin = strings.NewReader(answer + "\n")
		if out, err := reply.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		screen.until("Answered from elsewhere.")
	}
	screen.until("state:        open")
	screen.until("Done.")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTheDemoLeavesNothingBehindAfterCtrlC(t *testing.T) {
	cmd, screen := demoOnATerminal(t)
	screen.until("Password: ")
	screen.typeText("\x03")
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 130 {
		t.Errorf("the demo ended with status %d, not 130", status)
	}
}
