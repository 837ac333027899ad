// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

const module = "github.com/pamprompt/pamprompt/"

// event is a line of `go test -json`; `go doc test2json` describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
	Key, Value  string // of an attribute
}

// test is a test, or with an empty name a package as a whole.
type test struct {
	pkg, name string
	action    string // pass, fail or skip, once it is over
	output    strings.Builder
	parent    bool // has subtests
	failedSub bool
	cutOff    bool // was running when its package ended
}

func (t *test) String() string {
	pkg := strings.TrimPrefix(t.pkg, module)
	if t.name == "" {
		return pkg
	}
	return pkg + " " + t.name
}

type summary struct {
	tests  map[string]*test // by package and name
	order  []*test
	builds map[string]*strings.Builder // output of go build, by package
	stray  []string                    // lines that are no events: go itself failed
}

func newSummary() *summary {
	return &summary{tests: map[string]*test{}, builds: map[string]*strings.Builder{}}
}

func (s *summary) line(line []byte, progress io.Writer) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		s.stray = append(s.stray, strings.TrimRight(string(line), "\n"))
		return
	}
	switch e.Action {
	case "build-output":
		s.build(e.ImportPath).WriteString(e.Output)
	case "output":
		s.test(e.Package, e.Test).output.WriteString(e.Output)
	case "attr":
		saw(e, progress)
	case "pass", "fail", "skip":
		s.over(e, progress)
	}
}

// saw prints what a test wants to be read when it passed, too: the attribute
// "saw" (testing.T.Attr).
func saw(e event, progress io.Writer) {
	if e.Key == "saw" {
		name, _, _ := strings.Cut(e.Test, "/")
		_, _ = fmt.Fprintf(progress, "     %s saw %s\n", name, e.Value)
	}
}

func (s *summary) build(path string) *strings.Builder {
	b := s.builds[path]
	if b == nil {
		b = new(strings.Builder)
		s.builds[path] = b
	}
	return b
}

func (s *summary) test(pkg, name string) *test {
	key := pkg + " " + name
	t := s.tests[key]
	if t == nil {
		t = &test{pkg: pkg, name: name}
		s.tests[key] = t
		s.order = append(s.order, t)
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			s.test(pkg, name[:i]).parent = true
		}
	}
	return t
}

func (s *summary) over(e event, progress io.Writer) {
	t := s.test(e.Package, e.Test)
	t.action = e.Action
	if e.Action == "fail" {
		s.blame(t)
	}
	if e.Test != "" {
		return
	}
	if e.FailedBuild != "" {
		t.output.WriteString(s.build(e.FailedBuild).String())
	}
	word := map[string]string{"pass": "ok", "fail": "FAIL"}[e.Action]
	if word != "" {
		_, _ = fmt.Fprintf(progress, "%-4s %6.1fs  %s\n", word, e.Elapsed, t)
	}
}

// blame notes in everything above a failed test that it did not fail by itself.
func (s *summary) blame(t *test) {
	for name := t.name; name != ""; {
		i := strings.LastIndexByte(name, '/')
		name = name[:max(i, 0)]
		s.test(t.pkg, name).failedSub = true
	}
}

// counts tells whether a test is counted, and not only what it stands for.
func (t *test) counts() bool {
	switch {
	case t.action == "fail":
		return !t.failedSub
	case t.name == "":
		return false // packages count when they fail by themselves
	}
	return !t.parent
}

// with returns the tests that count and ended in this way.
func (s *summary) with(action string) []*test {
	var found []*test
	for _, t := range s.order {
		if t.action == action && t.counts() {
			found = append(found, t)
		}
	}
	return found
}

// end takes the tests that were running when their package ended as failed.
func (s *summary) end() {
	for _, t := range s.order {
		if t.name != "" && t.action == "" && !t.parent {
			t.action, t.cutOff = "fail", true
			s.blame(t)
		}
	}
}

func (s *summary) bad(ci bool) bool {
	return len(s.with("fail")) > 0 || len(s.stray) > 0 || len(s.with("pass")) == 0 || ci && len(s.with("skip")) > 0
}

func (s *summary) print(w io.Writer, ci bool) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	for _, line := range s.stray {
		say("%s\n", line)
	}
	for _, t := range s.with("fail") {
		what := "FAIL"
		if t.cutOff {
			what = "did not end"
		}
		say("\n--- %s: %s\n%s", what, t, indent(t.output.String()))
	}
	skipped := s.with("skip")
	if len(skipped) > 0 {
		say("\nnot run on this machine")
		if ci {
			say(", which CI=true makes a failure")
		}
		say(":\n")
		for _, t := range skipped {
			say("  %s: %s\n", t, t.reason())
		}
	}
	say("\n%d passed, %d failed, %d skipped\n", len(s.with("pass")), len(s.with("fail")), len(skipped))
}

var (
	place = regexp.MustCompile(`^\s*[A-Za-z0-9_]+\.go:[0-9]+: `)
	frame = regexp.MustCompile(`^\s*(=== |--- )`)
)

// reason is what the test gave to t.Skip.
func (t *test) reason() string {
	var words []string
	for line := range strings.Lines(t.output.String()) {
		if !frame.MatchString(line) {
			words = append(words, strings.TrimSpace(place.ReplaceAllString(line, "")))
		}
	}
	if text := strings.TrimSpace(strings.Join(words, " ")); text != "" {
		return text
	}
	return "no reason was given"
}

// maxLines bounds what is shown of one failure: the start says what went
// wrong, and a dump of every goroutine does not help to find it.
const maxLines = 150

func indent(text string) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		if n++; n <= maxLines {
			b.WriteString("    " + line)
		}
	}
	if n > maxLines {
		fmt.Fprintf(&b, "    ... and %d lines more\n", n-maxLines)
	}
	return b.String()
}
