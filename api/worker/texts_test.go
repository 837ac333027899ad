// SPDX-License-Identifier: Apache-2.0

package worker

import "testing"

func TestCut(t *testing.T) {
	for _, test := range []struct {
		name, text string
		limit      int
		want       string
	}{
		{"a text that fits", "abc", 3, "abc"},
		{"a text that does not", "abcd", 3, "abc"},
		{"a character that would be cut in two", "abä", 3, "ab"},
		{"a long character that would be cut in two", "a😀", 4, "a"},
		{"what is not UTF-8", "\x80\x80\x80\x80\x80\x80\x80\x80", 6, "\x80\x80\x80\x80\x80\x80"},
		{"an empty text", "", 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := string(Cut(test.text, test.limit)); got != test.want {
				t.Errorf("Cut(%q, %d) is %q, not %q", test.text, test.limit, got, test.want)
			}
		})
	}
}

func TestKeepForgetsTheOldest(t *testing.T) {
	var many, large []*Message
	for i := range MaxMessages + 5 {
		many = Keep(many, &Message{Text: []byte{byte(i)}})
		large = Keep(large, &Message{Text: make([]byte, MaxMessagesSize/3)})
	}
	if len(many) != MaxMessages || many[0].GetText()[0] != 5 {
		t.Errorf("%d messages are kept, from %d on", len(many), many[0].GetText()[0])
	}
	if len(large) != 3 {
		t.Errorf("%d large messages are kept, not 3", len(large))
	}
}
