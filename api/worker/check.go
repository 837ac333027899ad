// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Limits of the fields, in bytes unless said otherwise.
const (
	MaxName         = 255       // service, user, the owner's names
	MaxString       = 4 << 10   // any other string
	MaxText         = 128 << 10 // one text of a module; longer ones are cut by the worker
	MaxMessages     = 32        // texts kept for the next question, in number
	MaxMessagesSize = 32 << 10  // and together
	MaxBinary       = 64 << 10  // a binary prompt
	MaxEnvironment  = 64 << 10  // all entries together
	MaxChoices      = 64        // in number
	MaxArguments    = 1024      // of a command, in number
	MaxCommand      = 64 << 10  // its arguments and its environment together
	MaxSignal       = 64        // the kernel's last signal
	MaxAlternatives = 8         // transactions of one session, in number
)

// Check tells whether every field of a packet is within its bounds: a *ToWorker
// or a *ToBroker. Whether it may come now is for the receiver to say; a packet
// whose message is nil is of a later version and is to be skipped.
func Check(m proto.Message) error {
	var err error
	switch m := m.(type) {
	case *ToWorker:
		err = checkToWorker(m)
	case *ToBroker:
		err = checkToBroker(m)
	default:
		err = fmt.Errorf("not a packet")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func checkToWorker(packet *ToWorker) error {
	switch m := packet.GetMessage().(type) {
	case *ToWorker_Start:
		return checkStart(m.Start)
	case *ToWorker_Numbered:
		if m.Numbered.GetNumber() == 0 {
			return fmt.Errorf("a prompt is numbered 0")
		}
		return nil
	case *ToWorker_Answer, *ToWorker_Cancel, *ToWorker_Close, *ToWorker_Mirror, *ToWorker_Proceed:
		return nil
	case *ToWorker_Resolve:
		return checkUID("resolve.uid", m.Resolve.GetUid())
	case *ToWorker_Sweep:
		return checkUID("sweep.uid", m.Sweep.GetUid())
	case *ToWorker_Ended:
		return checkEnded(m.Ended)
	case *ToWorker_Signal:
		return checkSignal(m.Signal)
	case nil:
		return checkUnknown(packet)
	}
	return fmt.Errorf("a message of another direction")
}

// checkUID refuses the one number that is no uid: to the kernel it means "leave
// it as it is", and others take it for "failed" (CVE-2021-3560, CVE-2018-19788).
func checkUID(field string, uid uint32) error {
	if uid == math.MaxUint32 {
		return fmt.Errorf("%s is %d, which is no uid", field, uid)
	}
	return nil
}

// checkUnknown lets a message of a later version pass, for the receiver to
// skip: an old worker outlives an upgrade of the broker. Nothing at all is no
// message of any version.
func checkUnknown(m proto.Message) error {
	if len(m.ProtoReflect().GetUnknown()) == 0 {
		return fmt.Errorf("no message")
	}
	return nil
}

func checkStart(s *Start) error {
	o := s.GetOptions()
	for _, field := range []struct {
		name  string
		value string
		limit int
	}{
		{"service", s.GetService(), MaxName},
		{"user", s.GetUser(), MaxName},
		{"owner.name", s.GetOwner().GetName(), MaxName},
		{"owner.bus_id", s.GetOwner().GetBusId(), MaxName},
		{"owner.unit", s.GetOwner().GetUnit(), MaxString},
		{"owner.comm", s.GetOwner().GetComm(), MaxName},
		{"tty", o.GetTty(), MaxString},
		{"rhost", o.GetRhost(), MaxString},
		{"ruser", o.GetRuser(), MaxString},
		{"xdisplay", o.GetXdisplay(), MaxString},
		{"reason", o.GetReason(), MaxString},
		{"locale", o.GetLocale(), MaxName},
		{"ask_password", o.GetAskPassword(), MaxName},
	} {
		if len(field.value) > field.limit {
			return fmt.Errorf("start.%s is over %d bytes", field.name, field.limit)
		}
		if strings.ContainsRune(field.value, 0) {
			return fmt.Errorf("start.%s holds a NUL", field.name)
		}
	}
	switch {
	case s.GetSession() == 0:
		return fmt.Errorf("start.session is 0")
	case s.GetService() == "" || s.GetUser() == "":
		return fmt.Errorf("start.service or start.user is empty")
	case s.GetOptions() == nil || s.GetOwner() == nil:
		return fmt.Errorf("start has no options or no owner")
	case o.GetAttempts() < 1 || o.GetAttempts() > 16:
		return fmt.Errorf("start.attempts is not 1 to 16")
	case len(o.GetPhases()) > 4:
		return fmt.Errorf("start.phases has more than four")
	}
	if err := checkUID("start.owner.uid", s.GetOwner().GetUid()); err != nil {
		return err
	}
	if err := checkUID("start.user_uid", s.GetUserUid()); err != nil {
		return err
	}
	if err := checkAlternative(s); err != nil {
		return err
	}
	if err := checkEnvironment("start.environment", o.GetEnvironment()); err != nil || s.GetCommand() == nil {
		return err
	}
	return checkCommand(s.GetCommand())
}

func checkCommand(c *Command) error {
	arguments, directory := c.GetArguments(), c.GetDirectory()
	size := 0
	for _, argument := range arguments {
		if strings.ContainsRune(argument, 0) {
			return fmt.Errorf("start.command.arguments holds a NUL")
		}
		size += len(argument) + 1
	}
	switch {
	case c.GetLoginShell() && len(arguments) > 0:
		return fmt.Errorf("start.command.login_shell with arguments")
	case c.GetLoginShell():
	case len(arguments) == 0 || len(arguments) > MaxArguments || size > MaxCommand:
		return fmt.Errorf("start.command.arguments are not 1 to %d of at most %d bytes together", MaxArguments, MaxCommand)
	case arguments[0] == "" || strings.Contains(arguments[0], "/") && !strings.HasPrefix(arguments[0], "/"):
		return fmt.Errorf("start.command names no program by an absolute path or a name")
	}
	switch {
	case len(directory) > MaxString || strings.ContainsRune(directory, 0):
		return fmt.Errorf("start.command.directory is over %d bytes or holds a NUL", MaxString)
	case directory != "" && directory != "~" && !strings.HasPrefix(directory, "/") && !strings.HasPrefix(directory, "~/"):
		return fmt.Errorf("start.command.directory is not absolute")
	case c.GetTerminal() && !c.GetStdio():
		return fmt.Errorf("start.command.terminal without stdio")
	}
	for _, entry := range c.GetEnvironment() {
		size += len(entry) + 1
	}
	if size > MaxCommand {
		return fmt.Errorf("start.command.arguments and environment are over %d bytes together", MaxCommand)
	}
	return checkEnvironment("start.command.environment", c.GetEnvironment())
}

func checkEnvironment(field string, environment []string) error {
	size := 0
	for _, entry := range environment {
		size += len(entry) + 1
		if strings.IndexByte(entry, '=') < 1 || strings.ContainsRune(entry, 0) {
			return fmt.Errorf("%s has an entry that is not NAME=value", field)
		}
	}
	if size > MaxEnvironment {
		return fmt.Errorf("%s is over %d bytes", field, MaxEnvironment)
	}
	return nil
}

// checkSignal wants what kill(2) sends; 0 would only ask whether there is somebody.
func checkSignal(s *Signal) error {
	if s.GetSignal() < 1 || s.GetSignal() > MaxSignal {
		return fmt.Errorf("signal.signal is %d, which is not 1 to %d", s.GetSignal(), MaxSignal)
	}
	if s.GetTarget() == Target_TARGET_UNSPECIFIED {
		return fmt.Errorf("signal has no target")
	}
	return nil
}

func checkToBroker(packet *ToBroker) error {
	switch m := packet.GetMessage().(type) {
	case *ToBroker_Hello:
		return checkHello(m.Hello)
	case *ToBroker_Entering:
		return checkPhase(m.Entering.GetPhase())
	case *ToBroker_Resolved:
		return checkUID("resolved.uid", m.Resolved.GetUid())
	case *ToBroker_Ready:
		return nil
	case *ToBroker_Prompt:
		return checkPrompt(m.Prompt)
	case *ToBroker_Taken:
		if len(m.Taken.GetError()) > MaxName || len(m.Taken.GetText()) > MaxString {
			return fmt.Errorf("taken.text is too long")
		}
		return nil
	case *ToBroker_Withdrawn:
		if m.Withdrawn.GetOutcome() == Outcome_OUTCOME_UNSPECIFIED {
			return fmt.Errorf("withdrawn without an outcome")
		}
		return nil
	case *ToBroker_Text:
		return checkMessage(m.Text)
	case *ToBroker_Opened:
		return checkOpened(m.Opened)
	case *ToBroker_Closed:
		return checkResult(m.Closed.GetText())
	case *ToBroker_Failed:
		return checkFailed(m.Failed)
	case *ToBroker_Name:
		return checkName(m.Name)
	case *ToBroker_Exited:
		return checkExited(m.Exited)
	case nil:
		return checkUnknown(packet)
	}
	return fmt.Errorf("a message of another direction")
}

func checkName(n *Name) error {
	if len(n.GetName()) > MaxName || strings.ContainsRune(n.GetName(), 0) {
		return fmt.Errorf("name.name is over %d bytes or holds a NUL", MaxName)
	}
	return checkUID("name.uid", n.GetUid())
}

func checkHello(h *Hello) error {
	if h.GetVersion() == 0 {
		return fmt.Errorf("hello without a version")
	}
	s := h.GetSession()
	if s == nil {
		return nil
	}
	if s.GetStart() == nil {
		return fmt.Errorf("hello describes a session without its start")
	}
	if err := checkStart(s.GetStart()); err != nil {
		return err
	}
	if err := checkPhase(s.GetPhase()); err != nil {
		return err
	}
	if err := checkSideBySide(s); err != nil {
		return err
	}
	if s.GetPrompt() != nil {
		if s.GetClosing() {
			return fmt.Errorf("hello describes a question of a session that is being closed")
		}
		if err := checkPrompt(s.GetPrompt()); err != nil {
			return err
		}
	}
	if s.GetOpened() != nil {
		if err := checkOpened(s.GetOpened()); err != nil {
			return err
		}
	}
	if s.GetExited() != nil {
		if err := checkExited(s.GetExited()); err != nil {
			return err
		}
	}
	if s.GetClosed() != nil && s.GetFailed() != nil {
		return fmt.Errorf("hello describes a session that both closed and failed")
	}
	if s.GetFailed() != nil {
		return checkFailed(s.GetFailed())
	}
	return checkResult(s.GetClosed().GetText())
}

func checkPhase(p Phase) error {
	if p < Phase_PHASE_START || p > Phase_PHASE_END {
		return fmt.Errorf("phase %d is none", p)
	}
	return nil
}

// Asks reports whether a message of this style wants an answer.
func (x Style) Asks() bool {
	switch x {
	case Style_STYLE_SECRET, Style_STYLE_VISIBLE, Style_STYLE_CHOICE, Style_STYLE_BINARY:
		return true
	}
	return false
}

// Word is a phase in the words of the option `phases`, and of PAM where that has
// none: "authenticate", "close-session". One that there is not is "unknown".
func (x Phase) Word() string {
	name, known := Phase_name[int32(x)]
	if !known || x == Phase_PHASE_UNSPECIFIED {
		return "unknown"
	}
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "PHASE_")), "_", "-")
}

func checkPrompt(p *Prompt) error {
	if !p.GetStyle().Asks() {
		return fmt.Errorf("prompt of style %d", p.GetStyle())
	}
	if len(p.GetText()) > MaxText || len(p.GetBinary()) > MaxBinary {
		return fmt.Errorf("prompt.text or prompt.binary is too long")
	}
	if len(p.GetChoices()) > MaxChoices || len(p.GetMessages()) > MaxMessages {
		return fmt.Errorf("prompt.choices or prompt.messages has too many")
	}
	for _, choice := range p.GetChoices() {
		if len(choice) > MaxString {
			return fmt.Errorf("prompt.choices has one over %d bytes", MaxString)
		}
	}
	size := 0
	for _, message := range p.GetMessages() {
		if err := checkMessage(message); err != nil {
			return err
		}
		size += len(message.GetText())
	}
	if size > MaxMessagesSize {
		return fmt.Errorf("prompt.messages is over %d bytes", MaxMessagesSize)
	}
	return checkPhase(p.GetPhase())
}

func checkMessage(m *Message) error {
	if m.GetStyle() != Style_STYLE_INFO && m.GetStyle() != Style_STYLE_ERROR {
		return fmt.Errorf("message of style %d", m.GetStyle())
	}
	if len(m.GetText()) > MaxText {
		return fmt.Errorf("message.text is over %d bytes", MaxText)
	}
	return nil
}

func checkOpened(o *Opened) error {
	size := 0
	for _, entry := range o.GetEnvironment() {
		size += len(entry) + 1
	}
	if size > MaxEnvironment {
		return fmt.Errorf("opened.environment is over %d bytes", MaxEnvironment)
	}
	if o.GetPid() > math.MaxInt32 {
		return fmt.Errorf("opened.pid is %d, which is none", o.GetPid())
	}
	return nil
}

// checkExited wants what wait(2) can say.
func checkExited(e *Exited) error {
	if e.GetStatus() > 255 || e.GetSignal() > MaxSignal || e.GetStatus() != 0 && e.GetSignal() != 0 {
		return fmt.Errorf("exited with status %d and signal %d", e.GetStatus(), e.GetSignal())
	}
	return nil
}

func checkFailed(f *Failed) error {
	if f.GetError() == "" || len(f.GetError()) > MaxName {
		return fmt.Errorf("failed without a proper error name")
	}
	return checkResult(f.GetText())
}

func checkResult(text []byte) error {
	if len(text) > MaxString {
		return fmt.Errorf("the text of a result is over %d bytes", MaxString)
	}
	return nil
}
