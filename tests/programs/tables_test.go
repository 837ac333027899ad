// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testNames are what a cell of SECURITY.md says: "folder: TestOne, TestTwo".
var testNames = regexp.MustCompile(`^([a-z/-]+): (Test\w+(?:, Test\w+)*)$`)

// TestEveryRowOfTheThreatModelHasItsTest: a threat without a test, or with one
// that is gone, is a threat that nobody looks at.
func TestEveryRowOfTheThreatModelHasItsTest(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || strings.HasPrefix(line, "| they can ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		rows++
		for part := range strings.SplitSeq(strings.TrimSpace(cells[2]), "; ") {
			named := testNames.FindStringSubmatch(part)
			if named == nil {
				t.Errorf("SECURITY.md:%d: %q is not `folder: TestOne, TestTwo`", i+1, part)
				continue
			}
			for test := range strings.SplitSeq(named[2], ", ") {
				if !hasTest(t, named[1], test) {
					t.Errorf("SECURITY.md:%d: there is no %s in %s", i+1, test, named[1])
				}
			}
		}
	}
	if rows < 30 {
		t.Errorf("SECURITY.md has %d rows", rows)
	}
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
