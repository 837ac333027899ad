// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// nobody is a user that is not the broker's.
const nobody = 65534

// ran runs a command and returns its exit code and standard error.
func ran(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

func TestThereIsNoBroker(t *testing.T) {
	s := system.StartOnBus(t, system.Options{})
	s.Kill(t)
	cmd := exec.Command("pamprompt-client", "list")
	cmd.Env = s.Environment()
	if code, text := ran(t, cmd); code != exitUnreachable || !strings.Contains(text, "start pamprompt-broker") {
		t.Errorf("exit code %d, %s", code, text)
	}
	s.Restart(t)
}

func TestSomebodyElseIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	s := system.StartOnBus(t, options(t))
	for _, dir := range []string{s.Dir, s.Programs.Dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	c := s.Client(t)
	w, err := c.Watch(bounded(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	session := begin(t, s.System, "password", "anna", api.Options{})
	prompt, number := pending(t, w, "anna"), strconv.FormatUint(session.ID(), 10)
	for _, args := range [][]string{
		{"open", "--no-ask", "permit", "anna"}, {"open", "--no-ask", "nosuch", "anna"},
		{"show", number}, {"show", "1"}, {"close", number}, {"close", "1"},
		{"answer", prompt}, {"answer", "1"}, {"cancel", prompt}, {"cancel", "1"},
	} {
		t.Run(strings.Join(args[:len(args)-1], " "), func(t *testing.T) {
			cmd := exec.Command(s.Programs.Client, args...)
			cmd.Env, cmd.Dir = s.Environment(), "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			if code, text := ran(t, cmd); code != exitDenied {
				t.Errorf("%q: exit code %d, %s", args, code, text)
			}
		})
	}
	for _, list := range []string{"list", "prompts"} {
		cmd := exec.Command(s.Programs.Client, list, "--json")
		cmd.Env, cmd.Dir = s.Environment(), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.Output(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v, %s", list, err, out)
		}
	}
}

func TestWatch(t *testing.T) {
	s := system.Start(t, options(t))
	session := begin(t, s, "password", "anna", api.Options{})
	cmd := exec.Command("pamprompt-client", "watch", "--prompts", "--json")
	cmd.Env = s.Environment()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(stdout)
	want := func(pattern string) string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("no more lines; wanted %s", pattern)
		}
		found := regexp.MustCompile(pattern).FindStringSubmatch(lines.Text())
		if found == nil {
			t.Fatalf("got %s, wanted %s", lines.Text(), pattern)
		}
		return found[len(found)-1]
	}
	id := strconv.FormatUint(session.ID(), 10)
	prompt := want(`^{"event":"prompt","prompt":([0-9]+),"session":` + id + `,.*"service":"password","user":"anna"`)
	answer := exec.Command("pamprompt-client", "answer", prompt)
	answer.Env, answer.Stdin = s.Environment(), strings.NewReader("secret")
	if code, text := ran(t, answer); code != exitOK {
		t.Fatalf("exit code %d, %s", code, text)
	}
	want(`^{"event":"prompt-closed","prompt":` + prompt + `,"outcome":"answered"}$`)
	want(`^{"event":"message","session":` + id + `,"style":"info","text":"almost there"}$`)
	want(`^{"event":"state","session":` + id + `,"state":"open","pam-result":0}$`)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
