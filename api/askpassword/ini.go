// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/unit"
)

// maxFileLine is the longest line that the reader of unit files takes.
const maxFileLine = unit.SYSTEMD_LINE_MAX - 1

var (
	section    = regexp.MustCompile(`^\[[A-Za-z0-9_-]+\]$`)
	assignment = regexp.MustCompile(`^[A-Za-z0-9_-]+[ \t]*=`)
)

// assignments hands every assignment in a section [Ask] to set, until it fails.
func assignments(text []byte, set func(name, value string) error) error {
	if err := plain(text); err != nil {
		return err
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return err
	}
	for _, o := range options {
		if o.Section != "Ask" {
			continue
		}
		if err := set(o.Name, o.Value); err != nil {
			return err
		}
	}
	return nil
}

// plain refuses what ini readers do not all read alike: lines that go on in the
// next one, line ends and spaces of other kinds, what stands before the first
// section. Whoever reads a file in another way than systemd's agents sends the
// answer to another socket. Those who ask write nothing of this kind.
func plain(text []byte) error {
	if !utf8.Valid(text) || bytes.ContainsFunc(text, unread) {
		return errors.New("it holds what is no text: other characters than UTF-8 has, or a control character")
	}
	before := true
	for line := range strings.Lines(string(text)) {
		if len(line) > maxFileLine {
			return fmt.Errorf("it has a line of more than %d bytes", maxFileLine)
		}
		line = strings.TrimSuffix(line, "\n")
		if strings.HasSuffix(line, `\`) {
			return errors.New("it has a line that goes on in the next one")
		}
		line = strings.Trim(line, " \t")
		_, value, _ := strings.Cut(line, "=")
		switch {
		case line == "":
		case line[0] == '#' || line[0] == ';':
			if strings.HasSuffix(line, `\`) {
				return errors.New("it has a comment that goes on in the next line")
			}
		case section.MatchString(line):
			before = false
		case before:
			return errors.New("it does not begin with a section")
		case !assignment.MatchString(line):
			return fmt.Errorf("its line %q is no assignment", cut(clean(line), MaxLine))
		case strings.TrimSpace(value) != strings.Trim(value, " \t"):
			return errors.New("it has a value with a space of another kind at an end")
		}
	}
	return nil
}

// unread reports whether a character is one that systemd refuses, or takes for
// something else than the reader of unit files does.
func unread(r rune) bool {
	return r != '\n' && r != '\t' && unicode.IsControl(r) || r == '\ufeff' || unicode.Is(unicode.Noncharacter_Code_Point, r)
}

// safe reports whether systemd takes a text for a path. It passes over an
// assignment with another one, and keeps the value before it.
func safe(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`"'\`, r) })
}
