// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/base64"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Text is what a module said without asking.
type Text struct {
	Style string `json:"style"` // StyleInfo or StyleError
	Text  string `json:"text"`
}

// Prompt is a question that waits for an answer. Message is the module's own
// text; Reason is the words of whoever opened the session; the owner's uid is
// what the bus says, and its pid, unit and comm are for display only. What is
// not known is zero or nil.
type Prompt struct {
	ID        uint64          `json:"prompt"`
	Session   uint64          `json:"session,omitempty"`
	Path      dbus.ObjectPath `json:"path"` // of the session; "/" for a question of no session
	Style     string          `json:"style"`
	Message   string          `json:"message"`
	Service   string          `json:"service,omitempty"`
	User      string          `json:"user,omitempty"`
	UID       *uint32         `json:"uid,omitempty"`
	OwnerUID  *uint32         `json:"owner-uid,omitempty"`
	OwnerPID  uint32          `json:"owner-pid,omitempty"`
	OwnerUnit string          `json:"owner-unit,omitempty"`
	OwnerComm string          `json:"owner-comm,omitempty"`
	Attempt   uint32          `json:"attempt,omitempty"` // of authenticate, from 1
	Expires   uint64          `json:"expires,omitempty"` // CLOCK_MONOTONIC in microseconds; 0 = never
	Reason    string          `json:"reason,omitempty"`
	Messages  []Text          `json:"messages,omitempty"` // what the module said since the last question
	Phase     string          `json:"phase,omitempty"`
	Index     uint32          `json:"index"` // how many questions came before
	Choices   []string        `json:"choices,omitempty"`
	Command   []string        `json:"command,omitempty"`    // what is to run in the session
	Source    string          `json:"source,omitempty"`     // SourcePAM or SourceAskPassword
	RequestID string          `json:"request-id,omitempty"` // SourceAskPassword: what it is about, such as "cryptsetup:/dev/sda3"
	Binary    []byte          `json:"binary,omitempty"`     // StyleBinary: the module's packet
}

func newPrompt(id uint64, path dbus.ObjectPath, style, message string, d map[string]dbus.Variant) Prompt {
	p := Prompt{
		ID: id, Session: sessionNumber(path), Path: path, Style: style, Message: message,
		Service: value[string](d, "service"), User: value[string](d, "user"), UID: optional[uint32](d, "uid"),
		OwnerUID: optional[uint32](d, "owner-uid"), OwnerPID: value[uint32](d, "owner-pid"),
		OwnerUnit: value[string](d, "owner-unit"), OwnerComm: value[string](d, "owner-comm"),
		Attempt: value[uint32](d, "attempt"), Expires: value[uint64](d, "expires"), Reason: value[string](d, "reason"),
		Phase: value[string](d, "phase"), Index: value[uint32](d, "index"), Choices: value[[]string](d, "choices"),
		Command: value[[]string](d, "command"),
		Source:  value[string](d, "source"), RequestID: value[string](d, "request-id"),
	}
	p.Messages = value[[]Text](d, "messages")
	p.Binary, _ = base64.StdEncoding.DecodeString(value[string](d, "binary"))
	return p
}

// Remaining is how long the prompt still waits; ok is false if it does not
// expire.
func (p Prompt) Remaining() (left time.Duration, ok bool) {
	if p.Expires == 0 {
		return 0, false
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, false
	}
	return max(0, time.Duration(p.Expires)*time.Microsecond-time.Duration(now.Nano())), true
}

// value is an entry of a dictionary, or zero when it is absent or has another
// type than the contract says.
func value[T any](dict map[string]dbus.Variant, name string) T {
	var zero T
	if p := optional[T](dict, name); p != nil {
		return *p
	}
	return zero
}

// optional is value that tells what is absent from what is zero.
func optional[T any](dict map[string]dbus.Variant, name string) *T {
	variant, ok := dict[name]
	if !ok {
		return nil
	}
	var v T
	if variant.Store(&v) != nil {
		return nil
	}
	return &v
}
