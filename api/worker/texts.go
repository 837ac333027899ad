// SPDX-License-Identifier: Apache-2.0

package worker

import "unicode/utf8"

// Cut limits a text of a module, if it can between two characters.
func Cut(text string, limit int) []byte {
	if len(text) <= limit {
		return []byte(text)
	}
	end := limit
	for end > limit-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	if !utf8.RuneStart(text[end]) {
		end = limit // not UTF-8
	}
	return []byte(text[:end])
}

// Keep appends a message and forgets the oldest, so that what is left is within
// the limits of a prompt's messages.
func Keep(messages []*Message, m *Message) []*Message {
	m = &Message{Style: m.GetStyle(), Text: Cut(string(m.GetText()), MaxMessagesSize)}
	messages = append(messages, m)
	size := 0
	for i := len(messages) - 1; i >= 0; i-- {
		size += len(messages[i].GetText())
		if size > MaxMessagesSize || len(messages)-i > MaxMessages {
			return messages[i+1:]
		}
	}
	return messages
}
