// SPDX-License-Identifier: Apache-2.0

package conv

import "strings"

// maxText bounds a message, in bytes: the broker takes no longer one.
const maxText = 128 << 10

// clean makes a module's text one that a bus carries: UTF-8, without NUL, of a length.
func clean(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return text
}
