// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/tests/system"
)

// block is an example of a document: commands, and what they print.
type block struct {
	where string // document and line
	shell string
	want  string
	print bool // want is to be compared
}

// blocks returns the "```sh" blocks of a document, each with the "```text"
// block that follows at once, if one does.
func blocks(t *testing.T, document string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	var (
		found  []block
		inside string // the kind of block that this line is in
		after  bool   // the last line ended a shell block
	)
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && inside == "" && fence == "sh":
			found = append(found, block{where: fmt.Sprintf("%s:%d", document, i+1)})
			inside = fence
		case isFence && inside == "" && fence == "text" && after:
			found[len(found)-1].print = true
			inside = fence
		case isFence && inside == "":
			inside = "other"
		case isFence:
			after = inside == "sh"
			inside = ""
			continue
		case inside == "sh":
			found[len(found)-1].shell += line + "\n"
		case inside == "text":
			found[len(found)-1].want += line + "\n"
		}
		after = false
	}
	if len(found) == 0 {
		t.Fatalf("%s has no examples", document)
	}
	return found
}

const (
	marker = "@@block\n"
	failed = "@@failed: "
)

// script puts blocks into one bash script that marks where each begins and
// which of its commands fail.
func script(list []block) string {
	var b strings.Builder
	b.WriteString("exec 2>&1\n" +
		"trap 'trap - ERR; kill $BROKER_PID 2>/dev/null; rm -rf \"$dir\"' EXIT\n" +
		"trap 'printf \"" + failed + "%d from %s\\n\" $? \"$BASH_COMMAND\"' ERR\n")
	for _, block := range list {
		b.WriteString("printf '" + strings.ReplaceAll(marker, "\n", `\n`) + "'\n" + block.shell)
	}
	return b.String()
}

var number = regexp.MustCompile(`\bPID[= ][0-9]+|\bpamprompt-[0-9a-f]{16}\b|[0-9]{5,}`)

// words takes output apart. Numbers that differ from run to run are made the
// same: they have five digits or more, are said to be a process's, or the random
// part of a file's name. The order of details is the broker's.
func words(output string) []string {
	list := strings.Fields(number.ReplaceAllString(output, "#"))
	slices.Sort(list)
	return list
}

// shows tells whether output is what a document shows. "..." stands for
// anything.
func shows(want, output string) bool {
	expected, got := words(want), words(output)
	if !slices.Contains(expected, "...") {
		return slices.Equal(expected, got)
	}
	for _, word := range expected {
		i := slices.Index(got, word)
		if i < 0 && word != "..." {
			return false
		}
		if i >= 0 {
			got = slices.Delete(got, i, i+1)
		}
	}
	return true
}

func TestEveryExampleOfTheDocumentation(t *testing.T) {
	stop := block{where: "the end", shell: "kill $BROKER_PID\nrm -r \"$dir\"\n"}
	guide := blocks(t, "docs/busctl.md")
	// The first blocks of busctl.md make the stack, the broker and the names.
	prelude := guide[:slices.IndexFunc(guide, func(b block) bool { return strings.Contains(b.shell, "OpenSession") })]
	for _, document := range []struct {
		name   string
		blocks []block
	}{
		{"docs/busctl.md", guide},
		{"docs/dbus.md", slices.Concat(prelude, blocks(t, "docs/dbus.md"), []block{stop})},
		// The first block is the stack; this document starts its own broker.
		{"docs/ask-password.md", slices.Concat(prelude[:1], blocks(t, "docs/ask-password.md"), []block{stop})},
	} {
		t.Run(filepath.Base(document.name), func(t *testing.T) {
			needs(t, "python3", "dpkg")
			dir, bin := t.TempDir(), system.Build(t).Dir
			if err := os.Symlink(bin, filepath.Join(dir, "build")); err != nil {
				t.Fatal(err)
			}
			cmd := withRun(command(t, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")), "bash", "-c", script(document.blocks)))
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			t.Cleanup(func() { nothingLeft(t) })
			if err != nil {
				t.Errorf("the script ended with: %v", err)
			}
			compare(t, document.blocks, strings.Split(string(out), marker)[1:])
		})
	}
}

// compare compares what each block printed with what its document shows.
func compare(t *testing.T, list []block, outputs []string) {
	t.Helper()
	for i, block := range list {
		if i >= len(outputs) {
			t.Fatalf("%s: was not reached", block.where)
		}
		output := outputs[i]
		if strings.Contains(block.want, "Call failed: ") {
			output, _, _ = strings.Cut(output, failed) // as the document says
		} else if strings.Contains(output, failed) {
			t.Errorf("%s: a command failed:\n%s", block.where, output)
		}
		if block.print && !shows(block.want, output) {
			t.Errorf("%s: the document shows\n%sand this was printed\n%s", block.where, block.want, output)
		}
		if !block.print && strings.TrimSpace(output) != "" {
			t.Errorf("%s: the document shows nothing, and this was printed\n%s", block.where, output)
		}
	}
}

// TestTheGoProgramOfTheREADME builds the program with another service and user,
// and runs it.
func TestTheGoProgramOfTheREADME(t *testing.T) {
	needs(t)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "\n```go\n")
	source, _, ended := strings.Cut(rest, "\n```\n")
	if !ok || !ended {
		t.Fatal("README.md has no Go program")
	}
	source = strings.NewReplacer(`"login"`, `"demo"`, `"anna"`, `"nobody"`).Replace(source)
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": source, "answer.0": "open sesame", "answer.1": "755224"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := command(t, os.Environ(), "go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "program"), filepath.Join(dir, "main.go"))
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := append(environment(t), "CREDENTIALS_DIRECTORY="+dir)
	out, err := command(t, env, filepath.Join(dir, "program")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "EDITOR=nano") {
		t.Fatalf("%v\n%s", err, out)
	}
}
