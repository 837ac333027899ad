// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxHeld is how many sessions have a text at most; the one that spoke longest
// ago is forgotten first.
const maxHeld = 1024

// text is one text of a session. The zero value is no text.
type text struct {
	key    uint64
	number uint64 // which of all texts it is, from 1 on
	line   string
}

// texts holds the last text of each session, in the order in which they came.
type texts struct {
	held  []text
	count uint64 // how many there have been
}

func (t *texts) show(key uint64, line string) {
	t.hide(key)
	if len(t.held) == maxHeld {
		t.held = slices.Delete(t.held, 0, 1)
	}
	t.count++
	t.held = append(t.held, text{key, t.count, line})
}

// hide says whether there was one to hide.
func (t *texts) hide(key uint64) bool {
	i := slices.IndexFunc(t.held, func(one text) bool { return one.key == key })
	if i < 0 {
		return false
	}
	t.held = slices.Delete(t.held, i, i+1)
	return true
}

// last is the text to show.
func (t *texts) last() text {
	if len(t.held) == 0 {
		return text{}
	}
	return t.held[len(t.held)-1]
}

// forget drops what came up to and with that number.
func (t *texts) forget(number uint64) {
	t.held = slices.DeleteFunc(t.held, func(one text) bool { return one.number <= number })
}

// fit cuts a line to what a request can carry. A control character is refused:
// a NUL byte would end the text, and themes write the others to a terminal.
func fit(line string) (string, error) {
	if len(line) > maxText {
		end := maxText
		for end > maxText-utf8.UTFMax && !utf8.RuneStart(line[end]) {
			end--
		}
		line = line[:end]
	}
	switch {
	case !utf8.ValidString(line):
		return "", errors.New("it is no UTF-8")
	case strings.ContainsFunc(line, unicode.IsControl):
		return "", errors.New("it has control characters")
	}
	return line, nil
}
