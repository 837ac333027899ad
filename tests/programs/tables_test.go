// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testNames are what a cell of SECURITY.md or docs/reliability.md says: "folder: TestOne, TestTwo".
var testNames = regexp.MustCompile(`^([a-z/-]+): (Test\w+(?:, Test\w+)*)$`)

// TestEveryRowOfTheThreatModelHasItsTest: a threat without a test, or with one
// that is gone, is a threat that nobody looks at.
func TestEveryRowOfTheThreatModelHasItsTest(t *testing.T) {
	if rows := testedRows(t, "SECURITY.md", 3); rows < 30 {
		t.Errorf("SECURITY.md has %d rows", rows)
	}
}

// TestEveryFaultHasItsTest: so is a fault.
func TestEveryFaultHasItsTest(t *testing.T) {
	if rows := testedRows(t, "docs/reliability.md", 4); rows < 30 {
		t.Errorf("docs/reliability.md has %d rows", rows)
	}
}

// testedRows counts the rows of a page's tables that have so many cells. The third cell of
// each must name tests that there are.
func testedRows(t *testing.T, page string, cells int) (rows int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	head := true // of a table
	for i, line := range strings.Split(string(text), "\n") {
		row := strings.Split(strings.Trim(line, "|"), " | ")
		switch {
		case !strings.HasPrefix(line, "| "):
			head = true
			continue
		case len(row) != cells || head:
			head = head && !strings.HasPrefix(line, "| ---")
			continue
		}
		rows++
		for part := range strings.SplitSeq(strings.TrimSpace(row[2]), "; ") {
			named := testNames.FindStringSubmatch(part)
			if named == nil {
				t.Errorf("%s:%d: %q is not `folder: TestOne, TestTwo`", page, i+1, part)
				continue
			}
			for test := range strings.SplitSeq(named[2], ", ") {
				if !hasTest(t, named[1], test) {
					t.Errorf("%s:%d: there is no %s in %s", page, i+1, test, named[1])
				}
			}
		}
	}
	return rows
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
