// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"strings"
	"testing"
)

func TestNoMoreThanAThousandTextsAreHeld(t *testing.T) {
	var held texts
	for key := range uint64(maxHeld) {
		held.show(key, "first")
	}
	held.show(0, "again") // so that key 1 is the oldest
	held.show(maxHeld, "one too many")
	if len(held.held) != maxHeld {
		t.Errorf("%d texts are held, want %d", len(held.held), maxHeld)
	}
	for key, want := range map[uint64]bool{0: true, 1: false, 2: true, maxHeld: true} {
		if got := held.hide(key); got != want {
			t.Errorf("the text of session %d is held: %v, want %v", key, got, want)
		}
	}
}

func TestTextsAreForgottenUpToANumber(t *testing.T) {
	var held texts
	held.show(1, "one")
	held.show(2, "two")
	held.show(1, "one again")
	held.forget(2)
	if got := held.last(); len(held.held) != 1 || got.line != "one again" || got.number != 3 {
		t.Errorf("%v is held, want only the third text", held.held)
	}
	held.forget(3)
	if got := held.last(); got != (text{}) {
		t.Errorf("%v is held, want nothing", got)
	}
}

func TestWhatALineMayBe(t *testing.T) {
	long := strings.Repeat("x", maxText-1)
	for _, c := range []struct {
		name, line, want string
		bad              bool
	}{
		{name: "a line is left as it is", line: finger, want: finger},
		{name: "a character that does not fit is left out whole", line: long + "€", want: long},
		{name: "a character that just fits is kept", line: long[2:] + "€", want: long[2:] + "€"},
		{name: "what is behind the border does not count", line: long + "x\x00", want: long + "x"},
		{name: "a NUL byte ends the text for plymouthd", line: "a\x00b", bad: true},
		{name: "a newline makes two lines", line: "a\nb", bad: true},
		{name: "an escape moves the cursor", line: "a\x1b[2Jb", bad: true},
		{name: "so does a control character of two bytes", line: "a\u009b2Jb", bad: true},
		{name: "a broken character is refused", line: "a\xffb", bad: true},
		{name: "only broken bytes are refused, however many", line: strings.Repeat("\x80", 2*maxText), bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := fit(c.line)
			if got != c.want || (err != nil) != c.bad {
				t.Errorf("fit(%q) = %q, %v, want %q", c.line, got, err, c.want)
			}
		})
	}
}

func TestALineThatIsRefusedDoesNotReachTheScreen(t *testing.T) {
	s := New(newJournal().logger())
	s.Show(1, finger)
	s.Show(1, "a\x00b")
	if got := s.texts.last().line; got != finger {
		t.Errorf("the text is %q, want the one before", got)
	}
	s.Show(1, "")
	if got := s.texts.last(); got != (text{}) {
		t.Errorf("the text is %v, want none", got)
	}
}
