// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/system"
)

// answering is an agent that gives one answer to every question.
func answering(t *testing.T, s *system.System, text string) {
	t.Helper()
	c := s.Client(t)
	w, err := c.Watch(context.Background(), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := secret.New(len(text))
	if err != nil {
		t.Fatal(err)
	}
	copy(answer.Bytes(), text)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range w.Events() {
			if p, ok := event.(api.Prompt); ok {
				if err := c.Answer(context.Background(), p.ID, answer); err != nil {
					t.Errorf("answer %+v: %v", p, err)
				}
			}
		}
	}()
	t.Cleanup(func() {
		w.Close()
		<-ended
		answer.Wipe()
	})
}

// The programs of docs/examples run PAM themselves, on a stack that stands in an
// /etc/pam.d of their own.
func TestProgramsThatRunPAMThemselves(t *testing.T) {
	needs(t, "cc", "pkg-config", "python3", "unshare")
	dir := t.TempDir()
	build := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build the program in %s: %v\n%s", name, err, out)
		}
	}
	build("Go", "go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "go"), "./docs/examples/authenticate")
	build("C", "sh", "-c", `cc -Wall -Wextra -Werror docs/examples/authenticate.c -o "$0" $(pkg-config --cflags --libs dbus-1) -lpam`, filepath.Join(dir, "c"))
	programs := map[string][]string{
		"Go": {filepath.Join(dir, "go")}, "C": {filepath.Join(dir, "c")},
		"Python": {"/usr/bin/python3", filepath.Join(root, "docs/examples/authenticate.py")},
	}
	for name, program := range programs {
		for answer, want := range map[string]string{"open sesame": "ok", "wrong": ""} {
			t.Run(name+" with the answer "+answer, func(t *testing.T) {
				s := system.Start(t, system.Options{Stacks: map[string]string{
					"example": system.Matrix(t, "example", map[string]string{"nobody": "open sesame"}),
				}})
				answering(t, s, answer)
				args := append([]string{"--mount", "sh", "-ec", `mount --bind "$0" /etc/pam.d; exec "$@"`, s.PAMDir}, program...)
				out, err := command(t, s.Environment(), "unshare", append(args, "example", "nobody")...).CombinedOutput()
				if (err == nil) != (want != "") || want != "" && strings.TrimSpace(string(out)) != want {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
