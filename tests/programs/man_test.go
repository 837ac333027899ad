// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/tests/system"
)

// The manual is complete, names no page of ours that there is not, and troff has
// nothing to say about it.
func TestTheManual(t *testing.T) {
	needs(t, "groff")
	dir := t.TempDir()
	cmd := exec.Command("scripts/man.sh", "1.2.3", dir)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man*", "*"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are no pages: %v", err)
	}
	const bold = `\\fB`
	reference := regexp.MustCompile(bold + `((?:pamprompt|pam_pamprompt|org\.pamprompt)[^\\]*(?:\\-[^\\]*)*)\\fP\(([0-9])\)`)
	for _, page := range pages {
		name, _ := filepath.Rel(dir, page)
		cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z", name)
		cmd.Dir = dir // where links to pages begin
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("troff says of %s: %v %s", name, err, out)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "@HELP") || strings.Contains(string(text), ".md)") {
			t.Errorf("in %s something was not replaced", name)
		}
		for _, found := range reference.FindAllStringSubmatch(string(text), -1) {
			to := strings.ReplaceAll(found[1], `\-`, "-")
			if _, err := os.Stat(filepath.Join(dir, "man"+found[2], to+"."+found[2])); err != nil {
				t.Errorf("%s names %s(%s), which there is not", name, to, found[2])
			}
		}
	}
	client := system.Build(t).Client
	commands := regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`).FindAllStringSubmatch(help(t, client), -1)
	if len(commands) < 10 {
		t.Fatalf("the client has the commands %v", commands)
	}
	for _, c := range commands {
		if c[1] == "help" {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, "man1", "pamprompt-client-"+c[1]+".1"))
		if err != nil {
			t.Errorf("command %s has no page: %v", c[1], err)
			continue
		}
		text := strings.ReplaceAll(string(page), `\-`, "-")
		for _, flag := range regexp.MustCompile(`(?m)^ +(?:-., )?(--[a-z-]+)`).FindAllStringSubmatch(help(t, client, c[1]), -1) {
			if flag[1] != "--help" && !strings.Contains(text, flag[1]) {
				t.Errorf("the page of %s does not have %s", c[1], flag[1])
			}
		}
	}
}

func help(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, append(args, "--help")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
