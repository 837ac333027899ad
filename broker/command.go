// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// stdioCount is standard input, output and error.
const stdioCount = 3

// runs reports whether a process is to run in the session.
func (o *opening) runs() bool { return len(o.command.GetArguments()) > 0 }

func setCommand(o *opening, arguments []string) error {
	size := 0
	for _, argument := range arguments {
		size += len(argument) + 1
	}
	switch {
	case len(arguments) == 0 || arguments[0] == "":
		return fmt.Errorf("names no program")
	case len(arguments) > api.MaxArguments:
		return fmt.Errorf("has %d arguments, at most %d are allowed", len(arguments), api.MaxArguments)
	case size > api.MaxCommand:
		return fmt.Errorf("is %d bytes long, at most %d are allowed", size, api.MaxCommand)
	case strings.Contains(arguments[0], "/") && !strings.HasPrefix(arguments[0], "/"):
		return fmt.Errorf("names the program %s: give an absolute path, or a name that is in PATH", quote(arguments[0]))
	}
	o.command.Arguments = arguments
	return nil
}

func setStdio(o *opening, indexes []dbus.UnixFDIndex) error {
	if len(indexes) != stdioCount {
		return fmt.Errorf("has %d descriptors, not %d: standard input, output and error", len(indexes), stdioCount)
	}
	o.stdio, o.command.Stdio = indexes, true
	return nil
}

func setWorkingDirectory(o *opening, path string) error {
	switch {
	case len(path) > api.MaxText:
		return fmt.Errorf("is %d bytes long, at most %d are allowed", len(path), api.MaxText)
	case path != "~" && !strings.HasPrefix(path, "/"):
		return fmt.Errorf("is %s, which is neither absolute nor ~", quote(path))
	}
	o.command.Directory = path
	return nil
}

// checkCommand is for options that mean nothing without another one.
func (o *opening) checkCommand(given map[string]dbus.Variant) error {
	for _, name := range []string{api.OptionStdio, api.OptionWorkingDirectory, api.OptionControllingTerminal} {
		if _, is := given[name]; is && !o.runs() {
			return invalid("option %s is of a command, and there is no option %s", name, api.OptionCommand)
		}
	}
	if o.command.GetTerminal() && !o.command.GetStdio() {
		return invalid("option %s needs option %s, whose first descriptor is the terminal", api.OptionControllingTerminal, api.OptionStdio)
	}
	return nil
}

// descriptors are those of option stdio. They stay the call's.
func (o *opening) descriptors(call *bus.Call) ([]int, error) {
	var fds []int
	for _, index := range o.stdio {
		fd, err := call.Descriptor(index)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// runs reports whether the session is one with a command.
func (s *session) runs() bool { return s.start.GetCommand() != nil }

// exited is how the command ended. The session goes on until its last process has.
func (s *session) exitedWith(e *worker.Exited) error {
	if !s.runs() || !s.opened || s.exited != nil {
		return fmt.Errorf("it told of the end of a command that does not run")
	}
	s.exited = e
	s.b.bus.Send(bus.Signal{Path: s.path(), Name: properties + ".PropertiesChanged", Values: []any{
		api.SessionInterface, variants(s.commandProperties()), []string{},
	}})
	return nil
}

// signalBase is what shells add to the signal that ended a command.
const signalBase = 128

// commandProperties are those that change when the command ends.
func (s *session) commandProperties() map[string]any {
	status, signal := int32(-1), int32(0)
	if s.exited != nil {
		status, signal = int32(s.exited.GetStatus()), int32(s.exited.GetSignal())
		if signal != 0 {
			status = signalBase + signal
		}
	}
	return map[string]any{"Leader": s.leader(), "ExitStatus": status, "ExitSignal": signal}
}

// leader is the process of the command while it runs, and else the worker's
// while it has the session.
func (s *session) leader() uint32 {
	switch {
	case s.over() || s.worker == nil:
		return 0
	case s.pid != 0 && s.exited == nil:
		return s.pid
	}
	return uint32(s.worker.PID())
}
