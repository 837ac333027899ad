// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// splash starts a system in the network namespace of a plymouthd of the test's
// own, whose screen is a terminal: Plymouth's socket belongs to the network
// namespace. It says there what it does. It is process 1 of a namespace, since
// it sends signals to that one.
func splash(t *testing.T, stack string) (*stage, *terminal) {
	t.Helper()
	needs(t, "plymouthd", "plymouth", "nsenter")
	screen, tty := openTerminal(t)
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
		"/bin/sh", "-c", `mount -t tmpfs tmpfs /run && exec "$@"`, "sh",
		"plymouthd", "--no-daemon", "--no-boot-log", "--mode=boot", "--tty="+tty.Name(),
		"--debug", "--debug-file="+filepath.Join(t.TempDir(), "debug"), // else it says nothing, or says it in /var/log
		"--kernel-command-line=plymouth.ignore-serial-consoles plymouth.ignore-udev nosplash")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	screen.see("entering event loop")
	b := start(t, options{stacks: map[string]string{"one": stack}, network: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)})
	b.output("plymouth", "show-splash")
	return b, screen
}

func TestPlymouthAnswers(t *testing.T) {
	b, screen := splash(t, asks(t, "ask=secret,Password: ; export=ANSWER", "ask=secret,One-time code: ; export=CODE"))
	agent := b.at(ttyAgent, "--watch", "--plymouth")
	s, p, _ := b.ask(api.Options{Reason: "nightly backup"})
	for _, step := range []struct{ asks, answer string }{{"Password:", "correct hörse"}, {"One-time code:", "755224"}} {
		screen.see(line("nightly backup", "", step.asks))
		screen.press(step.answer + "\r")
		b.bus.closed(p, api.OutcomeAnswered)
		if step.asks == "Password:" {
			p = b.bus.promptOf(s)
		}
	}
	got := b.bus.environment(s)
	if got["ANSWER"] != "correct hörse" || got["CODE"] != "755224" {
		t.Errorf("the module got %q and %q", got["ANSWER"], got["CODE"])
	}
	screen.never("correct")
	agent.stop()
}

// A module that wants somebody to do something, and asks nothing.
func TestPlymouthShowsWhatWantsNoAnswer(t *testing.T) {
	const text = "anna (one): Touch your token"
	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(gate, os.O_RDWR, 0) // for both, so that neither end waits for the other
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	script := filepath.Join(dir, "wait")
	if err := os.WriteFile(script, []byte("read -r _ <"+gate+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait := "auth required " + modules.System(t, "pam_exec") + " quiet /bin/sh " + script + "\n"
	probe := "auth required " + modules.Probe(t)
	b, screen := splash(t, probe+" [auth:info=Touch your token]\n"+wait+
		probe+" [auth:ask=secret,PIN: ]\n"+probe+" [auth:info=Once more]\n"+wait+"auth required pam_permit.so\n"+rest)
	s := b.open(api.Options{})
	screen.see("displaying message " + text + "\r\n")
	screen.see(text + "\r\n") // for people
	if _, err := open.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	p := b.bus.promptOf(s)
	screen.see("hiding message " + text + "\r\n")
	b.bus.answer(p, "1234")
	screen.see("displaying message anna (one): Once more\r\n")
	if _, err := open.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	screen.see("hiding message anna (one): Once more\r\n")
	b.bus.opened(s)
}
