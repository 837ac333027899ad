// SPDX-License-Identifier: Apache-2.0

// Command testsummary reads the output of `go test -json` from its standard
// input and says what matters: a line for each package with its time, what
// tests have as an attribute "saw", the output of what failed, by name and with
// the reason whatever was skipped. The last line is "N passed, N failed, N
// skipped". It exits with 1 when anything failed, and with CI=true also when
// anything was skipped.
//
// A test with subtests is counted by its subtests, unless it failed by itself.
// A package that does not build or ends otherwise than by its tests counts as
// one failure.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

func main() {
	s, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testsummary: read the output of go test: %v\n", err)
		os.Exit(1)
	}
	ci := os.Getenv("CI") == "true"
	s.print(os.Stdout, ci)
	if s.bad(ci) {
		os.Exit(1)
	}
}

// read follows a test run and prints a line to progress as each package ends.
func read(r io.Reader, progress io.Writer) (*summary, error) {
	s := newSummary()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line, progress)
		}
		if err != nil && err != io.EOF {
			return s, err
		}
		if err == io.EOF {
			s.end()
			return s, nil
		}
	}
}
