// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// MaxFile is the longest request file that is read, in bytes.
	MaxFile = 64 << 10
	// maxPath is the longest path of a socket: sun_path without its NUL.
	maxPath = 107
	// maxPID is the kernel's PID_MAX_LIMIT.
	maxPID = 4 << 20
)

// Request is what a request file says, its section [Ask].
type Request struct {
	Message      string // one line; in a file of somebody else it may be anything
	Icon         string // of the XDG icon naming specification
	ID           string // Id=: what the question is about, for programs
	Socket       string // where the answer goes, an absolute path
	PID          int    // of the process that asks; 0 when it does not say
	NotAfter     uint64 // microseconds on CLOCK_MONOTONIC; 0 is never
	Echo         bool   // the answer may be seen as it is typed
	Silent       bool   // nothing at all shows as it is typed
	AcceptCached bool   // an answer from a cache will do
}

// Format writes a request as a file. Texts are made clean and cut to MaxLine,
// so that none of them can add a line; what it writes, Parse reads back, and so
// do systemd's agents.
func (r Request) Format() []byte {
	var b bytes.Buffer
	b.WriteString("[Ask]\n")
	for _, field := range []struct {
		name, value string
	}{
		{"PID", strconv.Itoa(r.PID)},
		{"Socket", r.Socket},
		{"AcceptCached", number(r.AcceptCached)},
		{"Echo", number(r.Echo)},
		{"NotAfter", strconv.FormatUint(r.NotAfter, 10)},
		{"Silent", number(r.Silent)},
		{"Icon", r.Icon},
		{"Id", r.ID},
		{"Message", r.Message},
	} {
		value := cut(clean(field.value), MaxLine)
		if value == "" || field.name == "PID" && r.PID == 0 { // agents complain of a process 0
			continue
		}
		if strings.HasSuffix(value, `\`) {
			value += " " // else the next line would belong to this one
		}
		b.WriteString(field.name + "=" + value + "\n")
	}
	return b.Bytes()
}

func number(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// Parse reads a request file. Unknown keys and sections are skipped, as the
// protocol wants; of a key that comes twice the last one counts, as with
// systemd. The error says what is wrong with a file that is none: one without a
// socket, or with a value that is out of bounds. Such a value systemd passes
// over, and of two sockets it takes the last one. We do not: its programs that
// ask write messages as they are, with new lines and all. Nor is a file read
// that readers could understand in different ways.
func Parse(text []byte) (Request, error) {
	var r Request
	if len(text) > MaxFile {
		return r, fmt.Errorf("it is longer than %d bytes", MaxFile)
	}
	if err := assignments(text, r.set); err != nil {
		return Request{}, err
	}
	if r.Socket == "" {
		return Request{}, errors.New("it has no Socket= in a section [Ask]")
	}
	return r, nil
}

func (r *Request) set(name, value string) (err error) {
	switch name {
	case "Message":
		r.Message = value
	case "Icon":
		r.Icon = value
	case "Id":
		r.ID = value
	case "Socket":
		if r.Socket != "" {
			return errors.New("it has more than one Socket=: a text may have brought one along")
		}
		r.Socket, err = path.Clean(value), checkSocket(value)
	case "PID":
		var pid uint64
		if pid, err = decimal(value); err == nil && pid > maxPID {
			err = errors.New("there is no such process")
		}
		r.PID = int(pid)
	case "NotAfter":
		r.NotAfter, err = decimal(value)
	case "Echo":
		r.Echo, err = boolean(value)
	case "Silent":
		r.Silent, err = boolean(value)
	case "AcceptCached":
		r.AcceptCached, err = boolean(value)
	}
	if err != nil {
		return fmt.Errorf("its %s= is wrong: %w", name, err)
	}
	return nil
}

// checkSocket bounds the path of a socket. systemd 262 writes // into it.
func checkSocket(name string) error {
	switch {
	case !strings.HasPrefix(name, "/"):
		return errors.New("it is no absolute path")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return errors.New("it has a part .. that goes back")
	case len(name) > maxPath:
		return fmt.Errorf("it is longer than %d bytes", maxPath)
	case clean(name) != name || !safe(name):
		return errors.New("it holds what no path should, or what systemd takes in none")
	}
	return nil
}

// decimal reads a number that means the same to systemd, which takes 010 for 8.
func decimal(value string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	switch {
	case err != nil:
		return 0, errors.New("it is no number of 64 bits")
	case strconv.FormatUint(n, 10) != value:
		return 0, errors.New("it begins with a zero")
	}
	return n, nil
}

// boolean reads what systemd takes for a boolean.
func boolean(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("it is neither yes nor no")
}

// Now is CLOCK_MONOTONIC in microseconds, the clock of NotAfter.
func Now() uint64 {
	var t unix.Timespec
	// It cannot fail: the clock exists and t is valid.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano() / 1000)
}
