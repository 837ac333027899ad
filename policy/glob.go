// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// maxPattern bounds a pattern, in bytes. Names of services, users and units are
// at most 255 bytes long.
const maxPattern = 255

// glob is a pattern of a whole name: * stands for any characters, ? for one.
// The zero glob matches everything.
type glob struct {
	literal string         // compared, when there is no * or ? in the pattern
	pattern *regexp.Regexp // which matches in linear time
}

// parseGlob compiles a pattern. Brackets and braces mean something in other
// globs, and so are refused rather than taken literally.
func parseGlob(text string) (glob, error) {
	switch {
	case text == "":
		return glob{}, fmt.Errorf("the pattern is empty: leave the line out, or write * for everything")
	case len(text) > maxPattern:
		return glob{}, fmt.Errorf("the pattern is %d bytes long, at most %d are allowed", len(text), maxPattern)
	case strings.ContainsAny(text, "[]{}"):
		return glob{}, fmt.Errorf("the pattern %q holds one of [ ] { }: there are only * and ?", text)
	case strings.ContainsFunc(text, unicode.IsControl):
		return glob{}, fmt.Errorf("the pattern %q holds a control character", text)
	case strings.Contains(text, "**"):
		return glob{}, fmt.Errorf("the pattern %q holds **: one * is as much", text)
	case !strings.ContainsAny(text, "*?"):
		return glob{literal: text}, nil
	case text == "*":
		return glob{}, nil
	}
	expression := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(text))
	compiled, err := regexp.Compile(`(?s)\A` + expression + `\z`)
	if err != nil {
		return glob{}, fmt.Errorf("the pattern %q: %v", text, err)
	}
	return glob{pattern: compiled}, nil
}

// matches says whether the pattern is one of the whole name.
func (g *glob) matches(name string) bool {
	switch {
	case g.literal != "":
		return g.literal == name
	case g.pattern != nil:
		return g.pattern.MatchString(name)
	}
	return true
}
