// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// What a Client reports when there is nobody to ask.
var (
	// ErrNoBus says that there is no bus at the address, or that the
	// connection to it was lost.
	ErrNoBus = errors.New("no connection to the message bus")
	// ErrNoBroker says that nobody owns the broker's name and that the bus
	// could not start it, or that the broker left before it had answered.
	ErrNoBroker = errors.New("no pamprompt broker on the bus")
)

const freedesktopError = "org.freedesktop.DBus.Error."

// busCodes are the errors of the bus itself that mean the same as a code.
var busCodes = map[string]Code{
	"AccessDenied":   AccessDenied, // the bus policy says no
	"AuthFailed":     AccessDenied,
	"InvalidArgs":    InvalidArgument,
	"LimitsExceeded": LimitExceeded,
}

// absent are the errors with which the bus says that the broker is not there.
var absent = map[string]bool{
	"ServiceUnknown": true, "NameHasNoOwner": true, "NoReply": true, "Timeout": true, "TimedOut": true,
}

// fault turns what a call of godbus failed with into the errors of this
// package. What it does not know it passes on whole, with the name of the call.
func fault(call string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var remote dbus.Error
	if !errors.As(err, &remote) {
		return local(call, err)
	}
	if code, ok := strings.CutPrefix(remote.Name, ErrorPrefix); ok {
		return &Error{Code: Code(code), Text: remote.Error()}
	}
	name, _ := strings.CutPrefix(remote.Name, freedesktopError)
	if code, ok := busCodes[name]; ok {
		return &Error{Code: code, Text: remote.Error()}
	}
	if absent[name] || strings.HasPrefix(name, "Spawn.") {
		return fmt.Errorf("%w: %v", ErrNoBroker, remote)
	}
	if name == "Disconnected" {
		return fmt.Errorf("%w: %v", ErrNoBus, remote)
	}
	return fmt.Errorf("%s: %s: %w", call, remote.Name, remote)
}

// local is fault for what did not come over the bus.
func local(call string, err error) error {
	for _, end := range []error{dbus.ErrClosed, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return fmt.Errorf("%w: it was closed", ErrNoBus)
		}
	}
	return fmt.Errorf("%s: %w", call, err)
}

// unknownObject reports whether err says that there is no object at a path:
// godbus and other D-Bus libraries answer so for a session that is gone.
func unknownObject(err error) bool {
	var remote dbus.Error
	if !errors.As(err, &remote) {
		return false
	}
	name, _ := strings.CutPrefix(remote.Name, freedesktopError)
	return name == "UnknownObject" || name == "UnknownMethod" || name == "NoSuchObject"
}
