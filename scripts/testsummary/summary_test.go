// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"
)

const p = `,"Package":"github.com/pamprompt/pamprompt/a"`

func TestSummary(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		ci    bool
		want  []string
		bad   bool
	}{
		{
			name: "subtests are counted instead of their parent",
			lines: []string{
				`{"Action":"pass"` + p + `,"Test":"TestA/one"}`, `{"Action":"pass"` + p + `,"Test":"TestA/two"}`,
				`{"Action":"pass"` + p + `,"Test":"TestA"}`, `{"Action":"pass"` + p + `}`,
			},
			want: []string{"2 passed, 0 failed, 0 skipped"},
		},
		{
			name: "a failed subtest is one failure, shown with its output",
			lines: []string{
				`{"Action":"output"` + p + `,"Test":"TestA/one","Output":"    a_test.go:3: wrong\n"}`,
				`{"Action":"fail"` + p + `,"Test":"TestA/one"}`, `{"Action":"fail"` + p + `,"Test":"TestA"}`,
				`{"Action":"fail"` + p + `}`,
			},
			want: []string{"--- FAIL: a TestA/one", "a_test.go:3: wrong", "0 passed, 1 failed, 0 skipped"},
			bad:  true,
		},
		{
			name:  "a package that does not build is one failure",
			lines: []string{`{"ImportPath":"x","Action":"build-output","Output":"a.go:1: no\n"}`, `{"Action":"fail"` + p + `,"FailedBuild":"x"}`},
			want:  []string{"--- FAIL: a\n", "a.go:1: no", "0 passed, 1 failed, 0 skipped"},
			bad:   true,
		},
		{
			name: "a skip is listed with its reason",
			lines: []string{
				`{"Action":"pass"` + p + `,"Test":"TestA"}`,
				`{"Action":"output"` + p + `,"Test":"TestB","Output":"=== RUN   TestB\n"}`,
				`{"Action":"output"` + p + `,"Test":"TestB","Output":"    b_test.go:10: needs root\n"}`,
				`{"Action":"skip"` + p + `,"Test":"TestB"}`, `{"Action":"pass"` + p + `}`,
			},
			want: []string{"  a TestB: needs root\n", "1 passed, 0 failed, 1 skipped"},
		},
		{
			name:  "a skip is a failure in continuous integration",
			lines: []string{`{"Action":"pass"` + p + `,"Test":"TestA"}`, `{"Action":"skip"` + p + `,"Test":"TestB"}`},
			ci:    true,
			want:  []string{"which CI=true makes a failure", "1 passed, 0 failed, 1 skipped"},
			bad:   true,
		},
		{
			name:  "a package without tests is no skip",
			lines: []string{`{"Action":"pass"` + p + `,"Test":"TestA"}`, `{"Action":"skip"` + p + `}`},
			ci:    true,
			want:  []string{"1 passed, 0 failed, 0 skipped"},
		},
		{
			name:  "a package that dies shows what was running",
			lines: []string{`{"Action":"output"` + p + `,"Test":"TestA","Output":"panic: x\n"}`, `{"Action":"fail"` + p + `}`},
			want:  []string{"--- did not end: a TestA\n    panic: x", "0 passed, 1 failed, 0 skipped"},
			bad:   true,
		},
		{
			name:  "what is no event is shown and a failure",
			lines: []string{`{"Action":"pass"` + p + `,"Test":"TestA"}`, `go: no such tool`},
			want:  []string{"go: no such tool", "1 passed, 0 failed, 0 skipped"},
			bad:   true,
		},
		{name: "nothing at all is a failure", want: []string{"0 passed, 0 failed, 0 skipped"}, bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := read(strings.NewReader(strings.Join(test.lines, "\n")), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			s.print(&out, test.ci)
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in:\n%s", want, out.String())
				}
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; !strings.HasSuffix(last, " skipped") {
				t.Errorf("the last line is %q", last)
			}
			if got := s.bad(test.ci); got != test.bad {
				t.Errorf("bad is %v, want %v", got, test.bad)
			}
		})
	}
}

func TestWhatATestSawIsPrinted(t *testing.T) {
	var progress strings.Builder
	line := `{"Action":"attr"` + p + `,"Test":"TestA/one","Key":"%s","Value":"a home"}` + "\n"
	lines := strings.ReplaceAll(line, "%s", "other") + strings.ReplaceAll(line, "%s", "saw")
	if _, err := read(strings.NewReader(lines), &progress); err != nil {
		t.Fatal(err)
	}
	if want := "     TestA saw a home\n"; progress.String() != want {
		t.Errorf("printed was %q, want %q", progress.String(), want)
	}
}
