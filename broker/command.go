// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// stdioCount is standard input, output and error.
const stdioCount = 3

// runs reports whether a process is to run in the session.
func (o *opening) runs() bool { return len(o.command.GetArguments()) > 0 || o.command.GetLoginShell() }

func setCommand(o *opening, arguments []string) error {
	size := length(arguments)
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

// length is that of strings with the byte that ends each.
func length(list []string) int {
	size := 0
	for _, s := range list {
		size += len(s) + 1
	}
	return size
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
	case path != "~" && !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "~/"):
		return fmt.Errorf("is %s, which is neither absolute nor begins with ~/, the user's home", quote(path))
	}
	o.command.Directory = path
	return nil
}

func setCommandEnvironment(o *opening, entries []string) error {
	if err := checkEnvironment(entries); err != nil {
		return err
	}
	o.command.Environment = entries
	return nil
}

func setAuthenticate(o *opening, s string) error {
	if s != api.AuthenticateAlways && s != api.AuthenticateUnlessPermitted {
		return fmt.Errorf("is %s, which is none of %s, %s", quote(s), api.AuthenticateAlways, api.AuthenticateUnlessPermitted)
	}
	o.unlessPermitted = s == api.AuthenticateUnlessPermitted
	return nil
}

// checkCommand is for options that mean nothing without another one, or beside it.
func (o *opening) checkCommand(given map[string]dbus.Variant) error {
	for _, name := range []string{api.OptionStdio, api.OptionWorkingDirectory, api.OptionControllingTerminal,
		api.OptionCommandEnvironment, api.OptionAuthenticate} {
		if _, is := given[name]; is && !o.runs() {
			return invalid("option %s is of a command, and there is neither option %s nor %s", name, api.OptionCommand, api.OptionLoginShell)
		}
	}
	if len(o.command.GetArguments()) > 0 && o.command.GetLoginShell() {
		return invalid("option %s and option %s are two commands: give one of them", api.OptionCommand, api.OptionLoginShell)
	}
	if _, is := given[api.OptionPhases]; is && o.unlessPermitted {
		return invalid("option %s says which phases there are, so does option %s: give one of them", api.OptionAuthenticate, api.OptionPhases)
	}
	if size := length(o.command.GetArguments()) + length(o.command.GetEnvironment()); size > api.MaxCommand {
		return invalid("option %s and option %s are %d bytes long together, at most %d are allowed",
			api.OptionCommand, api.OptionCommandEnvironment, size, api.MaxCommand)
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

// shownCommand is the beginning of a command, for whoever answers: that is what the
// answer lets run. It is in every Prompt signal, and so not too long.
func shownCommand(arguments []string) []string {
	const most = 1024
	size := 0
	for i, argument := range arguments {
		if size += len(argument) + 1; size > most {
			return append(slices.Clone(arguments[:i]), "...")
		}
	}
	return arguments
}

// program is what a session runs, for the log: arguments may hold what is secret.
func (s *session) program() string {
	switch command := s.start.GetCommand(); {
	case command == nil:
		return ""
	case command.GetLoginShell():
		return "login shell"
	default:
		return command.GetArguments()[0]
	}
}

// permitted leaves the authentication of the user out where it was asked for: the
// caller is root, or polkit has let it run commands as the user, as it does for
// run0 and pkexec.
func (o *opening) permitted() {
	if o.unlessPermitted {
		o.Phases = []worker.Phase{worker.Phase_PHASE_ACCOUNT, worker.Phase_PHASE_CREDENTIALS, worker.Phase_PHASE_SESSION}
		o.alternatives = nil // to what is left out
	}
}

// targets are the words of Kill.
var targets = map[string]worker.Target{
	api.KillLeader: worker.Target_TARGET_LEADER,
	api.KillGroup:  worker.Target_TARGET_GROUP,
	api.KillAll:    worker.Target_TARGET_ALL,
}

// killSession passes a signal on to the worker, which knows the processes.
func killSession(b *Broker, _ context.Context, t target) ([]any, error) {
	word, signal := t.call.Args[0].(string), t.call.Args[1].(int32)
	whom, known := targets[word]
	switch {
	case !known:
		return nil, invalid("%s is no target of a signal: it is one of %s", quote(word), strings.Join(sortedKeys(targets), ", "))
	case signal < 1 || signal > worker.MaxSignal:
		return nil, invalid("%d is no signal: it is a number from 1 to %d, see signal(7)", signal, worker.MaxSignal)
	}
	return nil, b.look(func() error {
		s, err := b.find(t.session)
		switch {
		case err != nil:
			return err
		case !s.runs():
			return invalid("session %d has no command: Close ends it", s.id)
		case !s.over():
			// Also before we know that the command runs: the worker knows it first.
			for _, t := range s.going() {
				t.send(&worker.ToWorker{Message: &worker.ToWorker_Signal{Signal: &worker.Signal{Target: whom, Signal: uint32(signal)}}})
			}
		}
		return nil
	})
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
	case s.over() || s.leading() == nil:
		return 0
	case s.pid != 0 && s.exited == nil:
		return s.pid
	}
	return uint32(s.leading().worker.PID())
}
