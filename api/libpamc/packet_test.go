// SPDX-License-Identifier: Apache-2.0

package libpamc

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"
)

func TestCopy(t *testing.T) {
	long := make([]byte, Max)
	binary.BigEndian.PutUint32(long, uint32(len(long)))
	for _, test := range []struct {
		name   string
		packet []byte
		want   []byte
	}{
		{"the smallest packet", []byte{0, 0, 0, 5, 1}, []byte{0, 0, 0, 5, 1}},
		{"what is behind a packet is not part of it", []byte{0, 0, 0, 6, 1, 'a', 'b'}, []byte{0, 0, 0, 6, 1, 'a'}},
		{"the largest packet", long, long},
		{"a length that does not hold its own head", []byte{0, 0, 0, 4}, nil},
		{"a length that is too much", []byte{0, 1, 0, 1}, nil},
		{"a length that is negative to some", []byte{0xff, 0xff, 0xff, 0xff}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Copy(unsafe.Pointer(&test.packet[0]))
			if !bytes.Equal(got, test.want) || (err == nil) != (test.want != nil) {
				t.Errorf("copied %d bytes (%v), not %d", len(got), err, len(test.want))
			}
		})
	}
	if _, err := Copy(nil); err == nil {
		t.Error("no packet was copied")
	}
}

// FuzzDecode: whatever somebody answers, a module gets a packet whose
// length is its own, or nothing.
func FuzzDecode(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzDecode"); err != nil || len(seeds) == 0 {
		f.Fatalf("testdata/fuzz/FuzzDecode has no seeds (%v)", err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		packet, err := Decode(text)
		if (packet == nil) == (err == nil) {
			t.Fatalf("%d bytes are both taken and refused, or neither", len(text))
		}
		if packet == nil {
			return
		}
		defer packet.Wipe()
		if got := binary.BigEndian.Uint32(packet.Bytes()); int(got) != packet.Len() || got < Header {
			t.Errorf("a packet of %d bytes says that it has %d", packet.Len(), got)
		}
		if again := base64.StdEncoding.AppendEncode(nil, packet.Bytes()); !bytes.Equal(again, withoutNewlines(text)) {
			t.Errorf("the answer changed on its way")
		}
	})
}

// withoutNewlines: base64 may come in lines.
func withoutNewlines(text []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\n"), nil), []byte("\r"), nil)
}
