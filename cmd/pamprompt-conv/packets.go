// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// The limits and first bytes of packets; pam/reply.h is the other side of them.
const (
	protocol  = 1
	header    = 5 // the first byte, and the number of the request
	maxReason = 4096
	maxText   = 32 << 10
	maxReply  = 1024
	// maxRequest is the longest of both requests that have something to say.
	maxRequest = 16 + maxText

	requestOpen = 'O'
	requestAsk  = 'Q'
	requestTell = 'T'
	requestDone = 'E'

	replyReady = 'R'
	replyAsked = 'A'
	replyTold  = 'D'
	replyAway  = 'U'
)

var errMalformed = errors.New("the module sent what is no request")

// request is one packet of the module: kind says which of the fields are there.
type request struct {
	kind   byte
	number uint32

	again                 bool          // there was a broker: wait for the next one
	timeout               time.Duration // of each question
	service, user, reason string
	uid                   *uint32 // of the user; nil when it is not known

	style string
	text  []byte
}

// parse takes a packet apart. What is returned points into it.
func parse(packet []byte) (*request, error) {
	if len(packet) < header {
		return nil, errMalformed
	}
	r := &request{kind: packet[0], number: binary.BigEndian.Uint32(packet[1:])}
	rest := packet[header:]
	switch r.kind {
	case requestOpen:
		return r, r.parseOpen(rest)
	case requestAsk, requestTell:
		if len(rest) < 1 {
			return nil, errMalformed
		}
		r.text = rest[1:]
		return r, r.parseStyle(rest[0])
	case requestDone:
		if len(rest) == 0 {
			return r, nil
		}
	}
	return nil, errMalformed
}

func (r *request) parseOpen(rest []byte) error {
	const fixed = 2 + 4 + 4
	if len(rest) < fixed || rest[0] != protocol {
		return fmt.Errorf("%w: the module is of another version than this program", errMalformed)
	}
	r.again = rest[1] == 1
	r.timeout = time.Duration(binary.BigEndian.Uint32(rest[2:])) * time.Second
	if uid := binary.BigEndian.Uint32(rest[6:]); uid != math.MaxUint32 {
		r.uid = &uid
	}
	words := bytes.Split(rest[fixed:], []byte{0})
	if len(words) != 4 || len(words[3]) != 0 || r.timeout == 0 || len(words[2]) > maxReason ||
		len(words[0]) > api.MaxName || len(words[1]) > api.MaxName {
		return errMalformed
	}
	r.service, r.user, r.reason = valid(words[0]), valid(words[1]), valid(words[2])
	return nil
}

// styles are those of pam_conv(3), by number.
var styles = map[byte]string{
	1: api.StyleSecret, 2: api.StyleVisible, 3: api.StyleError, 4: api.StyleInfo, 5: api.StyleChoice, 7: api.StyleBinary,
}

func (r *request) parseStyle(number byte) error {
	r.style = styles[number]
	isText := r.style == api.StyleError || r.style == api.StyleInfo
	if r.style == "" || isText != (r.kind == requestTell) || len(r.text) > maxText {
		return errMalformed
	}
	return nil
}

// valid makes what a module said fit for D-Bus, and drops nothing.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// reply sends a packet, and a file with it if that is not nil.
func reply(module *net.UnixConn, kind byte, number uint32, text string, file *os.File) error {
	packet := binary.BigEndian.AppendUint32([]byte{kind}, number)
	packet = append(packet, text[:min(len(text), maxReply-header)]...)
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	_, _, err := module.WriteMsgUnix(packet, rights, nil)
	if err != nil {
		return fmt.Errorf("reply to the module: %w", err)
	}
	return nil
}
