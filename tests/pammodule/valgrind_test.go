// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"os/exec"
	"strings"
	"testing"
)

// TestUnderValgrind runs what the sanitizers cannot see into: libpam, and what it
// does with what we give it. What is not freed is an error too.
func TestUnderValgrind(t *testing.T) {
	for behaviour, want := range map[string]string{
		"answers": "authenticate PAM_SUCCESS\nGOT secret\nend PAM_SUCCESS\n",
		"longest": "authenticate PAM_SUCCESS\nGOT " + strings.Repeat("x", 64<<10) + "\nend PAM_SUCCESS\n",
		"cancels": refusal + "\nGOT (none)\nend PAM_SUCCESS\n",
		"nul":     "",
		"loses":   "",
		"away":    "",
	} {
		t.Run(behaviour, func(t *testing.T) {
			s := on(t, plain())
			s.valgrind()
			s.fake(behaviour)
			s.stack("", "auth:batch=info,hello|secret,Password: auth:export=GOT")
			got := s.run("anna", "authenticate", "env=GOT", "end")
			if want != "" && got != want {
				t.Errorf("the program says\n%.500s\nnot\n%.500s", got, want)
			}
		})
	}
}

// valgrind runs the program.
func (s *stage) valgrind() {
	s.t.Helper()
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		s.t.Fatal("valgrind is not on this machine: the Debian package valgrind has it")
	}
	const kinds = "definite,indirect,possible"
	s.runner = []string{valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=" + kinds,
		"--errors-for-leak-kinds=" + kinds, "--child-silent-after-fork=yes"}
}

// TestTheAnalyzer has gcc follow each way through the module.
func TestTheAnalyzer(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exec gcc "+strings.Join(strict, " ")+" -O2 -fanalyzer -c -o /dev/null -x c - <<X\n"+
		"#define _GNU_SOURCE\n#include \"$PWD/reply.c\"\n#include \"$PWD/options.c\"\n#include \"$PWD/texts.c\"\n#include \"$PWD/answers.c\"\n#include \"$PWD/helper.c\"\n#include \"$PWD/pam_pamprompt.c\"\nX\n")
	cmd.Dir = "../../pam"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("gcc -fanalyzer: %v\n%s", err, out)
	}
}
