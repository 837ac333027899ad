// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func raw(watch int32, mask uint32, name string, length uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(watch))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, length)
	return append(b, name...)
}

func TestParseEvents(t *testing.T) {
	for _, c := range []struct {
		what string
		b    []byte
		want []event
	}{
		{"nothing", nil, nil},
		{"a name with its padding", raw(1, unix.IN_DELETE, "ask.a\x00\x00\x00", 8), []event{{change{1, "ask.a"}, unix.IN_DELETE}}},
		{"an overflow has no watch and no name", raw(-1, unix.IN_Q_OVERFLOW, "", 0), []event{{change{-1, ""}, unix.IN_Q_OVERFLOW}}},
		{
			"two", slices.Concat(raw(1, 2, "a\x00\x00\x00", 4), raw(3, 4, "", 0)),
			[]event{{change{1, "a"}, 2}, {change{3, ""}, 4}},
		},
		{"what is ours is left out", raw(1, unix.IN_DELETE, "sck.pamprompt-0", 15), nil},
		{"half a head", raw(1, 2, "", 0)[:15], nil},
		{"a name that is shorter than it says", raw(1, 2, "ab", 8), []event{{change{1, "ab"}, 2}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := parseEvents(c.b); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
