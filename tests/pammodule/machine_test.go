// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// TestProgramsOfOthers has them run as somebody else, on a system bus with the policy
// that is shipped, and with a helper that takes nothing from its environment.
func TestProgramsOfOthers(t *testing.T) {
	m := system.StartMachine(t, system.MachineOptions{})
	s := on(t, plain())
	everybody(t, s)
	s.copied(t, "helper", 0o755)
	s.stack("", asks)
	t.Run("a program that is not root is left to itself", func(t *testing.T) {
		out := inside(t, m, s, system.Anna, "program", "authenticate", "children", "end")
		if !strings.Contains(out, "the program is left to itself: ") || !strings.Contains(out, "you may not open conversations for this service") ||
			!strings.HasSuffix(out, refusal+"\nchildren none\nend PAM_SUCCESS\n") || strings.Count(out, "log ") != 1 {
			t.Errorf("the program says\n%s", out)
		}
	})
	t.Run("one that is setuid asks as root, for whoever runs it", func(t *testing.T) {
		s.copied(t, "setuid", 0o755|os.ModeSetuid)
		a := newAgent(t, m.System)
		done := make(chan string, 1)
		go func() { done <- inside(t, m, s, system.Anna, "setuid", "authenticate", "env=GOT", "end") }()
		p := next[api.Prompt](a)
		if p.OwnerUID == nil || *p.OwnerUID != 0 || p.OwnerComm != "setuid" {
			t.Errorf("the prompt is %+v", p)
		}
		a.reply(p, "hidden")
		want(t, <-done, "authenticate PAM_SUCCESS", "GOT hidden", "end PAM_SUCCESS")
	})
}

// everybody lets other users into the directories of the test.
func everybody(t *testing.T, s *stage) {
	t.Helper()
	for _, dir := range []string{s.b.dir, filepath.Dir(s.stacks)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// copied puts the helper that is shipped, or the program, into the directory of the
// module.
func (s *stage) copied(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	from := filepath.Join(s.b.dir, "program")
	if name == "helper" {
		var err error
		if from, err = helperProgram(); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(s.b.dir, name)
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, mode); err != nil { // which the umask has no part in
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(to) })
}

// inside runs the program as somebody, and returns what it says.
func inside(t *testing.T, m *system.Machine, s *stage, who system.Identity, program string, words ...string) string {
	t.Helper()
	cmd := m.Inside(t, who, filepath.Join(s.b.dir, program), append([]string{s.stacks, "test", "anna"}, words...)...)
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s", program, err, &wrong)
	}
	return string(out)
}
