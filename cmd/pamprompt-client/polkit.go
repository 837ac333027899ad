// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// polkitAgent is polkit's own agent for terminals, pkttyagent(1): what it asks, and
// the password that it is given, it has of polkit and keeps from us.
const polkitAgent = "pkttyagent"

// askForPolkit has polkit ask for a password on the controlling terminal while we
// call something for which it may want one, as systemctl and run0 do: where no
// other agent, of a desktop session, is there to be asked. stop ends it. It does
// nothing for root, who is never asked, and where there is no terminal or no polkit.
func (t *tool) askForPolkit(ctx context.Context) (stop func()) {
	none := func() {}
	if t.noPassword || os.Geteuid() == 0 {
		return none
	}
	term, err := openTerminal()
	if err != nil {
		return none
	}
	foreground := term.foreground()
	term.Close()
	path, err := exec.LookPath(polkitAgent)
	if err != nil || !foreground {
		return none
	}
	registered, notify, err := os.Pipe()
	if err != nil {
		return none
	}
	defer func() { _ = registered.Close() }()
	args := []string{"--notify-fd", "3"}
	if os.Getenv("XDG_SESSION_ID") != "" {
		args = append(args, "--fallback") // which polkit 122 does not find without a session
	}
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = []*os.File{notify}
	// It goes with us, however we go. The kernel means the thread that started it,
	// so that one has to stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	err = <-started
	_ = notify.Close()
	if err != nil {
		return none
	}
	waiting := context.AfterFunc(ctx, func() { _ = registered.Close() })
	_, _ = io.Copy(io.Discard, registered) // until polkit knows it, or it has ended
	waiting()
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it gives the terminal its mode back
		<-ended
	}
}
