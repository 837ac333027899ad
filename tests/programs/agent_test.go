// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// dialog is what the agent of docs/examples asks with: the first time nobody types
// anything, and then somebody knows the password.
const dialog = `#!/bin/sh
if mkdir "$0.first"; then echo $$ >"$0.new"; mv "$0.new" "$0.pid"; exec sleep 1000; fi 2>/dev/null
echo "$1" >"$0.text"
echo open sesame
`

// The agent of docs/examples withdraws its dialog when the bus ends, and asks again
// when there is another one.
func TestTheAgentOfTheExamples(t *testing.T) {
	needs(t)
	dir := t.TempDir()
	program, asker := filepath.Join(dir, "agent"), filepath.Join(dir, "dialog")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./docs/examples/agent")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(asker, []byte(dialog), 0o700); err != nil {
		t.Fatal(err)
	}
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{
		"example": system.Matrix(t, "example", map[string]string{"nobody": "open sesame"}),
	}})
	said := &strings.Builder{}
	agent := command(t, s.Environment(), program, asker)
	agent.Stderr = said
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	here := s.Client(t)
	session, err := here.Open(ctx, "example", "nobody", api.Options{Linger: true})
	if err != nil {
		t.Fatal(err)
	}
	system.AwaitFiles(t, dir, func() bool { return exists(asker + ".pid") })
	first := processOf(t, asker+".pid")
	s.EndBus(t, unix.SIGKILL)
	s.Ended(t)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(first), Events: unix.POLLIN}}, 60_000); n != 1 {
		t.Errorf("the dialog of a bus that has ended is still there: %v", err)
	}
	s.RestartBus(t)
	s.Restart(t)
	if here, err = here.Redial(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = here.Close() }()
	if err := here.Session(session.ID()).Wait(ctx, api.StateOpen); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(asker + ".text"); err != nil || string(text) != "nobody (example): Password: \n" {
		t.Errorf("the dialog shows %q, %v", text, err)
	}
	if err := agent.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("the agent ends with %v and has said %q", err, said)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// processOf is the process whose number is in a file, by a descriptor.
func processOf(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}
