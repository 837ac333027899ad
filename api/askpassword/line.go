// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine is the longest text, in bytes, that every agent shows: systemd's
// Plymouth client sends a length of one byte, its final NUL included.
const MaxLine = 254

// Shares of a line. What is long is cut, so that nobody can push the others out.
const (
	maxUser     = 48
	maxService  = 40
	maxQuestion = 100 // at least, when there is more to say than fits
	leastUseful = 12  // what is left of a text is shown only from this length on
)

const ellipsis = "…"

// Said is a text of a module, of style PAM_ERROR_MSG when Error is set, else of
// PAM_TEXT_INFO.
type Said struct {
	Error bool
	Text  string
}

// Question is what there is to say to whoever is to answer. Every part of it
// may be hostile and of any length.
type Question struct {
	User, Service string
	Reason        string // the caller's words
	Said          []Said // by the modules since the last question
	Text          string // the module's question
}

// Line makes a question into one clean line of UTF-8, of at most MaxLine bytes:
//
//	anna (systemd-user, "nightly backup"): Authentication failure. Password:
//
// Who is asked for what stands first and is never left out, nor is the question
// at the end, where an agent's cursor is. What the modules said and the
// caller's reason, which stands in quotes, get the room that is left, in this
// order; of what the modules said, the last error comes before all else.
func (q Question) Line() string {
	user, service := cut(clean(q.User), maxUser), cut(clean(q.Service), maxService)
	head, tail := user+" ("+service, "): "
	question := clean(q.Text)
	room := MaxLine - len(head) - len(tail)
	said := q.said(room - min(len(question), maxQuestion))
	question = cut(question, room-len(said))
	room -= len(said) + len(question)
	// Quotes of its own would let the reason pass for more than it is.
	reason := clean(strings.Map(unquoted, q.Reason))
	if reason = fit(reason, room-len(`, ""`)); reason != "" {
		head += `, "` + reason + `"`
	}
	return strings.TrimSpace(head + tail + said + question)
}

// lookalikes pass for quotation marks, and are none to Unicode.
const lookalikes = "ʺ˝ˮ״″‴⁗〃❝❞❠🙶🙷🙸"

func unquoted(r rune) rune {
	if (unicode.In(r, unicode.Quotation_Mark) || strings.ContainsRune(lookalikes, r)) && r != '\'' && r != '’' {
		return '\''
	}
	return r
}

// said is what the modules said, as much of it as has room: the last error
// first, then the others from the last one back.
func (q Question) said(room int) string {
	chosen := make([]string, len(q.Said))
	take := func(i int) {
		if chosen[i] != "" {
			return
		}
		text := strings.TrimRight(clean(q.Said[i].Text), ".:; ")
		if text = fit(text, room-len(". ")); text != "" {
			chosen[i] = text + ". "
			room -= len(chosen[i])
		}
	}
	for i := len(q.Said) - 1; i >= 0; i-- {
		if q.Said[i].Error {
			take(i)
			break
		}
	}
	for i := len(q.Said) - 1; i >= 0 && room >= leastUseful; i-- {
		take(i)
	}
	return strings.Join(chosen, "")
}

// Notice is a text that no question follows, as one clean line of at most
// MaxLine bytes: `anna (systemd-user): Touch your token`.
func Notice(user, service, text string) string {
	head := cut(clean(user), maxUser) + " (" + cut(clean(service), maxService) + "): "
	return strings.TrimSpace(head + cut(clean(text), MaxLine-len(head)))
}

// clean makes any text one line: valid UTF-8, white space as single spaces, and
// nothing that moves the cursor, changes the direction of writing or cannot be
// seen. What is much longer than any line ends in an ellipsis already here.
func clean(s string) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r) || r == 0:
			space = b.Len() > 0
			continue
		case b.Len() > 4*MaxLine:
			return b.String() + ellipsis
		case hidden(r):
			r = utf8.RuneError
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// hidden reports whether a character shows nothing, or is no character to print.
// Joiners show nothing and belong to words.
func hidden(r rune) bool {
	switch {
	case r == '\u200c', r == '\u200d':
		return false
	case r == '\u2800', unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r): // blanks among letters and symbols
		return true
	}
	return !unicode.IsPrint(r)
}

// cut shortens a clean text to a number of bytes, of which there must be enough
// for an ellipsis, and shows that it did.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	most = max(0, most-len(ellipsis))
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return strings.TrimSpace(s[:most]) + ellipsis
}

// fit is cut, or nothing where too little of the text would be left.
func fit(s string, most int) string {
	if len(s) > most && most < leastUseful {
		return ""
	}
	return cut(s, most)
}
