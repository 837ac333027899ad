// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"
)

// FuzzEvent: whatever a signal holds, making an event of it does not panic.
func FuzzEvent(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzEvent"); err != nil || len(seeds) == 0 {
		f.Fatal("the committed seeds are missing")
	}
	for _, body := range [][]any{
		{uint64(1), dbus.ObjectPath(SessionPrefix + "1"), StyleSecret, "Password: ", map[string]dbus.Variant{"attempt": dbus.MakeVariant(uint32(1))}},
		{uint64(1), OutcomeAnswered},
		{SessionInterface, map[string]dbus.Variant{"State": dbus.MakeVariant(StateOpen)}, []string{"UID"}},
	} {
		m := &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/")), dbus.FieldInterface: dbus.MakeVariant(ManagerInterface),
			dbus.FieldMember: dbus.MakeVariant("Prompt"), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
		}}
		var raw bytes.Buffer
		if err := m.EncodeTo(&raw, binary.LittleEndian); err != nil {
			f.Fatal(err)
		}
		f.Add("Prompt", raw.Bytes())
	}
	f.Fuzz(func(_ *testing.T, member string, message []byte) {
		m, err := decode(message)
		if err != nil {
			return
		}
		decodeEvent(&dbus.Signal{Name: ManagerInterface + "." + member, Body: m.Body})
		decodeEvent(&dbus.Signal{Name: propertiesChanged, Body: m.Body})
	})
}

// decode is godbus's decoder, which may panic.
func decode(message []byte) (m *dbus.Message, err error) {
	defer func() {
		if recover() != nil {
			err = os.ErrInvalid
		}
	}()
	return dbus.DecodeMessage(bytes.NewReader(message))
}
