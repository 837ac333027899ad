// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/policy"
)

// check runs policy check and returns what it wrote and its exit code.
func check(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	t := &tool{out: &output{w: &out}, stderr: &errs}
	root := t.root()
	root.SetArgs(append([]string{"policy", "check"}, args...))
	err := root.Execute()
	var verdict verdictError
	switch {
	case err == nil:
		code = exitOK
	case errors.As(err, &verdict):
		code = verdict.code
	case t.started:
		code = exitFailure
	default:
		code = exitUsage
	}
	if err != nil && verdict.code == 0 {
		errs.WriteString(err.Error())
	}
	return out.String(), errs.String(), code
}

var example = regexp.MustCompile("(?ms)^```(toml|sh|text)\n(.*?)^```$")

// TestTheExamplesOfThePolicyDocument puts all rules of the document into one
// directory, each into the file that its first line names, and runs the
// commands. Each prints one line.
func TestTheExamplesOfThePolicyDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var commands, want []string
	for _, block := range example.FindAllStringSubmatch(string(text), -1) {
		kind, body := block[1], block[2]
		lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
		switch kind {
		case "toml":
			name, ok := strings.CutPrefix(lines[0], "# "+policy.Dir+"/")
			if !ok {
				t.Fatalf("the rules do not say which file they are:\n%s", body)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		case "sh":
			commands = append(commands, lines...)
		case "text":
			want = append(want, lines...)
		}
	}
	if len(commands) < 10 || len(commands) != len(want) {
		t.Fatalf("%d commands and %d lines of output", len(commands), len(want))
	}
	for i, command := range commands {
		args, ok := strings.CutPrefix(command, "pamprompt-client policy check ")
		if !ok {
			t.Errorf("%s: not run", command)
			continue
		}
		stdout, stderr, code := check(append(strings.Fields(args), "--dir", dir)...)
		if got := strings.ReplaceAll(stdout, dir, policy.Dir); got != want[i]+"\n" || stderr != "" {
			t.Errorf("%s: the document shows\n%s\nand this was printed\n%s%s", command, want[i], got, stderr)
		}
		word, _, _ := strings.Cut(strings.ReplaceAll(want[i], " ", ":"), ":")
		if wanted := map[string]int{"allow": 0, "deny": 4, "polkit": 10}[word]; code != wanted {
			t.Errorf("%s: exit code %d, want %d", command, code, wanted)
		}
	}
}

func TestPolicyCheckAsJSON(t *testing.T) {
	dir := t.TempDir()
	rules := "[[rule]]\naction = \"open\"\nservice = \"x\"\ncaller = [\"unit:a.service\", \"unit:b.service\"]\nverdict = \"deny\"\n" +
		"[[rule]]\naction = \"open\"\nservice = \"x\"\ncaller = \"group:no such group\"\nverdict = \"allow\"\n"
	if err := os.WriteFile(filepath.Join(dir, "a.toml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := check("--json", "--dir", dir, "--caller", "uid:4294967294,group:7", "--service", "x", "--user", "anna")
	want := `{"verdict":"deny","polkit":[],"why":"rule ` + dir + `/a.toml:1","groups":[7],"warnings":["`
	if !strings.HasPrefix(stdout, want) || stderr != "" || code != 4 || strings.Count(stdout, "a.toml:") != 3 {
		t.Errorf("exit code %d, %s%s\nwant %s", code, stdout, stderr, want)
	}
	if _, stderr, _ := check("--dir", dir, "--caller", "uid:1,group:7", "--service", "x", "--user", "anna"); strings.Count(stderr, "\n") != 2 {
		t.Errorf("the warnings are %q", stderr)
	}
}

func TestPolicyCheckFindsGroupsAndNames(t *testing.T) {
	if _, stderr, code := check("--caller", "uid:1,group:root", "--action", "see", "--dir", t.TempDir()); code != exitPolkit {
		t.Errorf("a group by name: %d, %s", code, stderr)
	}
	if got := groupsOf(0); !slices.Contains(got, 0) {
		t.Errorf("the groups of root are %v", got)
	}
	if name := accountName(0); name != "root" {
		t.Errorf("uid 0 is %q", name)
	}
	if groups, name := groupsOf(4294967294), accountName(4294967294); groups != nil || name != "" {
		t.Errorf("a uid without an account is %q of %v", name, groups)
	}
}

func TestPolicyCheckRefuses(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "a.toml")
	if err := os.WriteFile(broken, []byte("[[rule]]\nx = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args string
		code int
		want string
	}{
		{"nothing", "", exitUsage, "--caller is missing"},
		{"a name for a uid", "--caller uid:anna", exitUsage, `--caller: "uid:anna" is not a number`},
		{"the uid that is none", "--caller uid:4294967295", exitUsage, "is not a number"},
		{"no uid", "--caller group:0", exitUsage, "without uid:UID"},
		{"two uids", "--caller uid:1,uid:2", exitUsage, `"uid:2" is not one uid:UID`},
		{"two units", "--caller uid:1,unit:a.service,unit:b.service", exitUsage, `"unit:b.service" is not`},
		{"another kind", "--caller uid:1,name:anna", exitUsage, `"name:anna" is not`},
		{"an unknown group", "--caller uid:1,group:nosuchgroup", exitUsage, `"group:nosuchgroup" is no group of this machine`},
		{"another action", "--caller uid:1 --action close", exitUsage, `--action is "close": try open`},
		{"nothing to open", "--caller uid:1", exitUsage, "--service and --user are needed"},
		{"an owner that is none", "--caller uid:1 --action see --owner root", exitUsage, `--owner: "root" is not a number`},
		{"a user that is none", "--caller uid:1 --action see --about -1", exitUsage, `--about: "-1" is not a number`},
		{"an argument", "--caller uid:1 --action see x", exitUsage, "unknown command"},
		{"broken rules", "--caller uid:1 --action see --dir " + dir, exitFailure, broken + `:2: there is no key "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, code := check(strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
				t.Errorf("exit code %d, %q, %q\nwant %d, %q", code, stdout, stderr, c.code, c.want)
			}
		})
	}
}
