// SPDX-License-Identifier: Apache-2.0

// Package imports checks which package may import which: data flows one way,
// and no libpam comes into the broker. It holds nothing but this test.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pamprompt/pamprompt/"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Standard     bool
	CgoFiles     []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// folder is the place in the tree: "broker/workers".
func (p pkg) folder() string { return strings.TrimPrefix(p.ImportPath, module) }

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Standard,CgoFiles,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("%v: %v\n%s", cmd, err, failed.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// allowed says which folders, and what is below them, the packages of a folder
// may import. The longest folder that matches counts.
var allowed = map[string][]string{
	"api/askpassword":      {"api/secret", "api/worker"},
	"api/conv":             {"api", "api/libpamc", "api/secret"},
	"api/libpamc":          {"api/secret"},
	"api/secret":           {},
	"api/transport":        {},
	"api/worker":           {},
	"api":                  {"api"},
	"dbus-1":               {},
	"journal":              {},
	"policy":               {"api"},
	"broker":               {"broker", "policy", "api", "dbus-1"},
	"conv":                 {"conv", "api/worker", "api/libpamc", "api/secret", "api/askpassword"},
	"cmd/pamprompt-broker": {"cmd/pamprompt-broker", "broker", "policy", "api", "dbus-1", "journal"},
	"cmd/pamprompt-client": {"cmd/pamprompt-client", "api", "policy"},
	"cmd/pamprompt-conv":   {"cmd/pamprompt-conv", "api"},
	"cmd/pamprompt-worker": {"cmd/pamprompt-worker", "conv", "api/worker", "api/secret", "journal"},
}

func within(folder, parent string) bool {
	return folder == parent || strings.HasPrefix(folder, parent+"/")
}

// rule finds the entry of allowed for a folder.
func rule(folder string) (targets []string, ok bool) {
	best := ""
	for parent, list := range allowed {
		if within(folder, parent) && len(parent) > len(best) {
			best, targets, ok = parent, list, true
		}
	}
	return targets, ok
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range list(t, "./...") {
		folder := p.folder()
		if within(folder, "tests") || within(folder, "scripts") || within(folder, "bench") || within(folder, "docs") {
			continue // these stand above everything
		}
		targets, ok := rule(folder)
		if !ok {
			t.Errorf("%s is in none of the known folders: say in allowed what it may import", folder)
			continue
		}
		for _, path := range p.Imports {
			target, ours := strings.CutPrefix(path, module)
			if ours && !slices.ContainsFunc(targets, func(parent string) bool { return within(target, parent) }) {
				t.Errorf("%s imports %s, and may only import %v", folder, target, targets)
			}
		}
	}
}

func TestTestsImportNothingFromAbove(t *testing.T) {
	for _, p := range list(t, "./api/...", "./broker/...", "./conv/...", "./policy/...") {
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if strings.HasPrefix(path, module+"cmd/") {
				t.Errorf("a test of %s imports %s", p.folder(), path)
			}
		}
	}
}

// Of the packages for other programs only api/conv has cgo, for those that run PAM.
func TestOnlyTheWorkerHasCgo(t *testing.T) {
	pure := []string{"-deps", "./cmd/pamprompt-broker", "./cmd/pamprompt-client", "./broker/...", "./policy/..."}
	for _, p := range list(t, "./api/...") {
		if p.folder() != "api/conv" {
			pure = append(pure, p.ImportPath)
		}
	}
	for _, p := range list(t, pure...) {
		if !p.Standard && len(p.CgoFiles) > 0 {
			t.Errorf("the broker or the client depends on %s, which needs cgo", p.ImportPath)
		}
	}
}

// A program that is released brings nobody its figures: that is for builds with a tag, of
// which neither the Makefile nor a package knows.
func TestFiguresAreInNoRelease(t *testing.T) {
	const figures = module + "tests/figures"
	for _, tagged := range []bool{false, true} {
		args := []string{"./cmd/..."}
		if tagged {
			args = append([]string{"-tags", "figures"}, args...)
		}
		n := 0
		for _, p := range list(t, args...) {
			if slices.Contains(p.Imports, figures) {
				n++
			}
		}
		if tagged != (n == 2) || !tagged && n > 0 {
			t.Errorf("with the tag %v, %d programs import %s", tagged, n, figures)
		}
	}
	for _, file := range []string{"Makefile", "scripts/package.sh", "scripts/install.sh"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "figures") {
			t.Errorf("%s builds with figures", file)
		}
	}
}

func TestPackagesAreNamedByWhatTheyDo(t *testing.T) {
	for _, p := range list(t, "./...") {
		switch p.Name {
		case "util", "utils", "common", "helper", "helpers", "misc":
			t.Errorf("%s: a package named %s holds whatever is put there", p.folder(), p.Name)
		}
	}
}
