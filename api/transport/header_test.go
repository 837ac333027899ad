// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"
)

func encode(t testing.TB, order binary.ByteOrder, from string, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:   dbus.MakeVariant(dbus.ObjectPath("/org/pamprompt/Broker1")),
		dbus.FieldMember: dbus.MakeVariant("AnswerPrompt"),
	}}
	if from != "" {
		m.Headers[dbus.FieldSender] = dbus.MakeVariant(from)
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, order); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestHeaderFindsLengthsAndSender(t *testing.T) {
	for name, order := range map[string]binary.ByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian} {
		for _, from := range []string{":1.42", ":1.18446744073709551615", ""} {
			message := encode(t, order, from, uint64(7), "text")
			h, err := parseFixed(message)
			if err != nil {
				t.Fatal(err)
			}
			if h.total() != len(message) {
				t.Errorf("%s endian: total() = %d, want %d", name, h.total(), len(message))
			}
			if got := string(origin(h, message[fixedHeader:fixedHeader+int(h.fields)]).Sender); got != from {
				t.Errorf("%s endian: origin().Sender = %q, want %q", name, got, from)
			}
		}
	}
}

// FuzzHeader: whatever the bytes, nothing panics, and where godbus decodes a
// message, we have found the same sender, or none: godbus also reads a field
// that begins behind the end of the fields, which no bus sends.
func FuzzHeader(f *testing.F) {
	f.Add(encode(f, binary.LittleEndian, ":1.1", "x"))
	f.Add(encode(f, binary.BigEndian, "", uint32(1)))
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzHeader"); err != nil || len(seeds) == 0 {
		f.Fatal("the committed seeds are missing")
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		h, err := parseFixed(message)
		if err != nil || h.fields > maxFields || len(message) < fixedHeader+int(h.fields) {
			return
		}
		from := string(origin(h, message[fixedHeader:fixedHeader+int(h.fields)]).Sender)
		if !decodable(message) {
			return
		}
		m, err := dbus.DecodeMessage(bytes.NewReader(message))
		if err != nil {
			t.Fatalf("decodable says yes, godbus says %v", err)
		}
		if want, _ := m.Headers[dbus.FieldSender].Value().(string); want != from && from != "" {
			t.Fatalf("origin().Sender = %q, godbus finds %q", from, want)
		}
	})
}
