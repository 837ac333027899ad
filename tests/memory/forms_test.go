// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// size is how long a secret is, in bytes. By chance there is none of 16.
const size = 32

// known is a secret that the test knows.
type known struct {
	text  string
	forms []form
}

// form is what a copy may look like.
type form struct {
	name  string
	bytes []byte
}

// newSecret makes one up that can be typed. Each is another, so that what is
// found is of this test.
func newSecret() known {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	text := make([]byte, size)
	for i := range text {
		text[i] = letters[rand.IntN(len(letters))]
	}
	text[0] = 'z' // 7a: in capitals its hexadecimal form is another one
	return forms(string(text))
}

func forms(text string) known {
	wide := new(bytes.Buffer)
	for _, unit := range utf16.Encode([]rune(text)) {
		wide.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	backwards := []byte(text)
	slices.Reverse(backwards)
	k := known{text: text, forms: []form{
		{"the first half", []byte(text[:size/2])},
		{"the second half", []byte(text[size/2:])},
		{"UTF-16", wide.Bytes()[:size]},
		{"hexadecimal", []byte(hex.EncodeToString([]byte(text)))[:size]},
		{"hexadecimal in capitals", []byte(strings.ToUpper(hex.EncodeToString([]byte(text))))[:size]},
		{"backwards", backwards},
	}}
	// Of base64 there are three, by how many bytes stand before it; the first
	// and the last letters depend on those, and on what follows.
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), text...))
		k.forms = append(k.forms, form{"base64 after " + string(rune('0'+before)), []byte(encoded[4 : len(encoded)-4])})
	}
	return k
}

// checksum is what pam_probe's fnv1a wants.
func (k known) checksum() string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(k.text))
	return hex.EncodeToString(sum.Sum(nil))
}

// in are the names of the forms that a text has.
func (k known) in(text []byte) (names []string) {
	for _, f := range k.forms {
		if bytes.Contains(text, f.bytes) {
			names = append(names, f.name)
		}
	}
	return names
}

// wantNotIn is for what was written down somewhere.
func (k known) wantNotIn(t *testing.T, where, text string) {
	t.Helper()
	if found := k.in([]byte(text)); found != nil {
		t.Errorf("%s has the secret (%s):\n%s", where, strings.Join(found, ", "), text)
	}
}
