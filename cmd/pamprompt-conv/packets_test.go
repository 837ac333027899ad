// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pamprompt/pamprompt/api"
)

const opening = "O\x00\x00\x00\x01" + "\x01\x00\x00\x00\x00\x78\xff\xff\xff\xff" // version 1, 120 seconds, nobody

func TestParse(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, test := range []struct {
		name, packet string
		want         *request // nil for a packet that is refused
	}{
		{"the first one", opening + "cron\x00anna\x00the job\x00",
			&request{kind: 'O', number: 1, timeout: 120 * time.Second, service: "cron", user: "anna", reason: "the job"}},
		{"a broker that was there, and a uid", "O\x00\x00\x00\x01\x01\x01\x00\x00\x00\x01\x00\x00\x03\xe8cron\x00\x00\x00",
			&request{kind: 'O', number: 1, again: true, timeout: time.Second, uid: new(uint32(1000)), service: "cron"}},
		{"text that is not UTF-8", opening + "cron\x00j\xf6rg\x00\x00",
			&request{kind: 'O', number: 1, timeout: 120 * time.Second, service: "cron", user: "j\ufffdrg"}},
		{"another version", "O\x00\x00\x00\x01\x02\x00\x00\x00\x00\x78\xff\xff\xff\xffcron\x00anna\x00\x00", nil},
		{"no time", "O\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\xff\xff\xff\xffcron\x00anna\x00\x00", nil},
		{"two words", opening + "cron\x00anna\x00", nil},
		{"four words", opening + "cron\x00anna\x00\x00\x00", nil},
		{"a word without an end", opening + "cron\x00anna\x00why", nil},
		{"a long service", opening + long[:256] + "\x00anna\x00\x00", nil},
		{"a long user", opening + "cron\x00" + long[:256] + "\x00\x00", nil},
		{"a long reason", opening + "cron\x00anna\x00" + long + "\x00", nil},
		{"a question", "Q\x00\x00\x00\x02\x01Password: ", &request{kind: 'Q', number: 2, style: api.StyleSecret, text: []byte("Password: ")}},
		{"a packet of libpamc", "Q\x00\x00\x00\x02\x07\x00\x00\x00\x05\x00", &request{kind: 'Q', number: 2, style: api.StyleBinary, text: []byte("\x00\x00\x00\x05\x00")}},
		{"a text", "T\x00\x00\x00\x03\x04hello", &request{kind: 'T', number: 3, style: api.StyleInfo, text: []byte("hello")}},
		{"a text that asks", "T\x00\x00\x00\x03\x01hello", nil},
		{"a question that only tells", "Q\x00\x00\x00\x03\x04hello", nil},
		{"a style that nobody knows", "Q\x00\x00\x00\x03\x06hello", nil},
		{"no style", "Q\x00\x00\x00\x03", nil},
		{"a long text", "T\x00\x00\x00\x03\x04" + strings.Repeat("x", maxText+1), nil},
		{"the end of a question", "E\x00\x00\x00\x04", &request{kind: 'E', number: 4}},
		{"an end that says more", "E\x00\x00\x00\x04x", nil},
		{"another kind", "X\x00\x00\x00\x04", nil},
		{"a short one", "Q\x00\x00\x00", nil},
		{"nothing", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse([]byte(test.packet))
			if test.want == nil {
				if !errors.Is(err, errMalformed) {
					t.Errorf("it is taken for %+v, %v", got, err)
				}
				return
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(request{})); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, packet []byte) {
		r, err := parse(packet)
		if err != nil {
			return
		}
		for _, s := range []string{r.service, r.user, r.reason, r.style} {
			if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
				t.Errorf("%q is not fit for a bus", s)
			}
		}
		if len(r.text) > maxText || len(r.reason) > 3*maxReason || (r.kind == requestOpen) != (r.timeout > 0) {
			t.Errorf("it is taken for %+v", r)
		}
	})
}
