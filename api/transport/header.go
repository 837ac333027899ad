// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

const (
	// fixedHeader is what every message starts with: order, type, flags,
	// version, body length, serial, length of the fields.
	fixedHeader = 16
	// maxFields bounds the header fields of a message that is looked at. Those
	// of any message are a path, names and a signature.
	maxFields = 64 << 10
)

var errHeader = errors.New("not a D-Bus message header")

// Header is what the fixed part of a message says.
type Header struct {
	Type   dbus.Type
	Flags  dbus.Flags
	Serial uint32

	order  binary.ByteOrder
	body   uint32 // length
	fields uint32 // length, without padding
}

// parseFixed reads the first 16 bytes of a message.
func parseFixed(b []byte) (Header, error) {
	if len(b) < fixedHeader {
		return Header{}, errHeader
	}
	h := Header{Type: dbus.Type(b[1]), Flags: dbus.Flags(b[2])}
	switch b[0] {
	case 'l':
		h.order = binary.LittleEndian
	case 'B':
		h.order = binary.BigEndian
	default:
		return Header{}, errHeader
	}
	h.body = h.order.Uint32(b[4:])
	h.Serial = h.order.Uint32(b[8:])
	h.fields = h.order.Uint32(b[12:])
	// The limits of the specification, which every bus enforces.
	if h.body > 1<<27 || h.fields > 1<<26 {
		return Header{}, fmt.Errorf("%w: impossible length", errHeader)
	}
	return h, nil
}

// padded is the length of the fields with their padding: the body starts at a
// multiple of eight.
func (h Header) padded() int { return int(h.fields+7) &^ 7 }

// total is the length of the whole message.
func (h Header) total() int { return fixedHeader + h.padded() + int(h.body) }

// Origin is what the header fields of a message say of where it comes from, and
// what it is. The bus itself fills in the sender. What is not there is empty. They
// are a part of the message, so that to look at one that is thrown away takes no memory.
type Origin struct{ Sender, Interface, Member []byte }

// origin finds these among the header fields, without decoding anything else; the
// last, as godbus does, if there are several of one.
func origin(h Header, fields []byte) (from Origin) {
	for pos := 0; pos < len(fields); {
		pos = align(pos, 8)
		if pos+4 > len(fields) || fields[pos+1] != 1 {
			return from // a field's variant has a signature of one type
		}
		code, kind := dbus.HeaderField(fields[pos]), fields[pos+2]
		value, next := fieldValue(h, fields, pos+4, kind)
		if next < 0 {
			return from
		}
		if kind == 's' {
			switch code {
			case dbus.FieldSender:
				from.Sender = value
			case dbus.FieldInterface:
				from.Interface = value
			case dbus.FieldMember:
				from.Member = value
			}
		}
		pos = next
	}
	return from
}

// fieldValue returns the bytes of one value and where the next field begins;
// -1 when the field is cut off or of a type that no header field has.
func fieldValue(h Header, b []byte, pos int, kind byte) ([]byte, int) {
	var start, length int
	switch kind {
	case 's', 'o', 'u':
		pos = align(pos, 4)
		if pos+4 > len(b) {
			return nil, -1
		}
		if kind == 'u' {
			return b[pos : pos+4], pos + 4
		}
		start, length = pos+4, int(h.order.Uint32(b[pos:]))
	case 'g':
		if pos >= len(b) {
			return nil, -1
		}
		start, length = pos+1, int(b[pos])
	default:
		return nil, -1
	}
	if length > len(b)-start-1 { // a NUL ends it
		return nil, -1
	}
	return b[start : start+length], start + length + 1
}

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }
