// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/policy"
)

// maxTimeout keeps sums with a clock far from their limits.
const maxTimeout = 366 * 24 * time.Hour

var (
	serviceName  = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.@:+-]*$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	localeName   = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)
)

func invalid(format string, args ...any) *api.Error {
	return &api.Error{Code: api.InvalidArgument, Text: fmt.Sprintf(format, args...)}
}

// checkService bounds the name of a PAM service. It becomes part of a path in
// libpam, which reads capital letters as small ones and drops what is before
// the last slash: what policy decides on and what runs must be the same name.
func checkService(name string) error {
	switch {
	case name == "":
		return invalid("the service is empty: name a file of /etc/pam.d")
	case len(name) > api.MaxName:
		return invalid("the service's name is %d bytes long, at most %d are allowed", len(name), api.MaxName)
	case !serviceName.MatchString(name):
		return invalid("the service %s is not the name of a file of /etc/pam.d: small letters, digits and _ . @ : + - only", quote(name))
	}
	return nil
}

// checkUser bounds a user's name, without asking whether there is such a user.
func checkUser(name string) error {
	switch {
	case name == "":
		return invalid("the user is empty: PAM would have to ask for it")
	case len(name) > api.MaxName:
		return invalid("the user's name is %d bytes long, at most %d are allowed", len(name), api.MaxName)
	case strings.ContainsAny(name, "/:") || hasControl(name) || strings.HasPrefix(name, "-") || name == "." || name == "..":
		return invalid("%s is no user name: it holds / or : or a control character, or starts with -", quote(name))
	}
	return nil
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// quote shows the beginning of what a caller sent, so that an error is never
// longer than what it complains about.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:most], ""))
	}
	return fmt.Sprintf("%q", s)
}

// opening is what the options of OpenSession say.
type opening struct {
	*worker.Options
	command worker.Command
	stdio   []dbus.UnixFDIndex // in the message
	// alternatives are services whose transactions run beside that of the main one.
	alternatives []string
	// unlessPermitted says that the user need not authenticate where somebody else
	// answers for the caller.
	unlessPermitted bool
	pid             uint32  // of a conversation: who asks; 0 for the caller
	uid             *uint32 // of a conversation: the user's; nil when it is not known
}

// parseOptions turns the options of OpenSession into those of a worker. Every
// error names the option.
func parseOptions(given map[string]dbus.Variant) (*opening, error) {
	o := &opening{Options: &worker.Options{Attempts: 1}}
	if err := o.set("OpenSession", openOptions, given); err != nil {
		return nil, err
	}
	if err := o.checkCommand(given); err != nil {
		return nil, err
	}
	return o, nil
}

// set takes what was given, of the options that a method has.
func (o *opening) set(method string, options map[string]setter, given map[string]dbus.Variant) error {
	for _, name := range sortedKeys(given) {
		set, known := options[name]
		if !known {
			return &api.Error{Code: api.UnknownOption, Text: fmt.Sprintf("%s has no option %s; it has %s",
				method, quote(name), strings.Join(sortedKeys(options), ", "))}
		}
		if err := set(o, name, given[name]); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

type setter func(o *opening, name string, v dbus.Variant) error

// openOptions are the options of OpenSession.
var openOptions = map[string]setter{
	api.OptionTTY:         text(func(o *opening, s string) { o.Tty = s }),
	api.OptionRhost:       text(func(o *opening, s string) { o.Rhost = s }),
	api.OptionRuser:       text(func(o *opening, s string) { o.Ruser = s }),
	api.OptionXDisplay:    text(func(o *opening, s string) { o.Xdisplay = s }),
	api.OptionReason:      text(func(o *opening, s string) { o.Reason = s }),
	api.OptionLinger:      flag(func(o *opening, b bool) { o.Linger = b }),
	api.OptionAgent:       flag(func(o *opening, b bool) { o.Agent = b }),
	api.OptionSilent:      flag(func(o *opening, b bool) { o.Silent = b }),
	api.OptionLocale:      typed("a string", setLocale),
	api.OptionAskPassword: typed("a string", setAskPassword),
	api.OptionEnvironment: typed("an array of strings", setEnvironment),
	api.OptionPhases:      typed("an array of strings", setPhases),
	api.OptionTimeout:     typed("a uint64, in microseconds", setTimeout),
	api.OptionAttempts:    typed("a uint32", setAttempts),

	api.OptionAlternatives: typed("an array of strings", setAlternatives),

	api.OptionCommand:             typed("an array of strings", setCommand),
	api.OptionStdio:               typed("an array of descriptors", setStdio),
	api.OptionWorkingDirectory:    typed("a string", setWorkingDirectory),
	api.OptionControllingTerminal: flag(func(o *opening, b bool) { o.command.Terminal = b }),
	api.OptionLoginShell:          flag(func(o *opening, b bool) { o.command.LoginShell = b }),
	api.OptionCommandEnvironment:  typed("an array of strings", setCommandEnvironment),
	api.OptionAuthenticate:        typed("a string", setAuthenticate),
}

// typed makes a setter of a function that takes a value of one type.
func typed[T any](what string, set func(*opening, T) error) setter {
	return func(o *opening, name string, v dbus.Variant) error {
		value, ok := v.Value().(T)
		if !ok {
			return invalid("option %s is %s, not of type %q", name, what, v.Signature().String())
		}
		if err := set(o, value); err != nil {
			return invalid("option %s %v", name, err)
		}
		return nil
	}
}

func text(set func(*opening, string)) setter {
	return typed("a string", func(o *opening, s string) error {
		if len(s) > api.MaxText {
			return fmt.Errorf("is %d bytes long, at most %d are allowed", len(s), api.MaxText)
		}
		if hasControl(s) {
			return fmt.Errorf("holds a control character")
		}
		set(o, s)
		return nil
	})
}

func flag(set func(*opening, bool)) setter {
	return typed("a boolean", func(o *opening, b bool) error {
		set(o, b)
		return nil
	})
}

func setLocale(o *opening, s string) error {
	if !localeName.MatchString(s) {
		return fmt.Errorf("is %s, which is no name of a locale: try C.UTF-8", quote(s))
	}
	o.Locale = s
	return nil
}

func setAskPassword(o *opening, s string) error {
	words := []string{api.AskPasswordYes, api.AskPasswordNo, api.AskPasswordFallback}
	if !slices.Contains(words, s) {
		return fmt.Errorf("is %s, which is none of %s", quote(s), strings.Join(words, ", "))
	}
	o.AskPassword = s
	return nil
}

func setEnvironment(o *opening, entries []string) error {
	if err := checkEnvironment(entries); err != nil {
		return err
	}
	o.Environment = entries
	return nil
}

func checkEnvironment(entries []string) error {
	for _, entry := range entries {
		name, _, ok := strings.Cut(entry, "=")
		if !ok || !variableName.MatchString(name) {
			return fmt.Errorf("has the entry %s, which is not NAME=value", quote(entry))
		}
	}
	if size := length(entries); size > api.MaxEnvironment {
		return fmt.Errorf("is %d bytes long, at most %d are allowed", size, api.MaxEnvironment)
	}
	return nil
}

var phases = map[string]worker.Phase{
	"authenticate": worker.Phase_PHASE_AUTHENTICATE,
	"account":      worker.Phase_PHASE_ACCOUNT,
	"credentials":  worker.Phase_PHASE_CREDENTIALS,
	"session":      worker.Phase_PHASE_SESSION,
}

func setPhases(o *opening, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("is empty: name at least one of %s", strings.Join(sortedKeys(phases), ", "))
	}
	for _, name := range names {
		phase, ok := phases[name]
		if !ok {
			return fmt.Errorf("has %s, which is none of %s", quote(name), strings.Join(sortedKeys(phases), ", "))
		}
		if slices.Contains(o.Phases, phase) {
			return fmt.Errorf("has %s twice", name)
		}
		o.Phases = append(o.Phases, phase)
	}
	slices.Sort(o.Phases) // PAM's order, whatever the caller's
	return nil
}

// checkOpening is policy's word on options that not everybody may set.
func checkOpening(admin bool, o *opening) error {
	var names []string
	for _, phase := range o.GetPhases() {
		names = append(names, phase.Word())
	}
	if err := policy.CheckOpening(admin, policy.Opening{
		Environment: o.GetEnvironment(), Phases: names,
		TTY: o.GetTty(), Rhost: o.GetRhost(), Ruser: o.GetRuser(), XDisplay: o.GetXdisplay(),
	}); err != nil {
		return invalid("%v", err)
	}
	return nil
}

func setTimeout(o *opening, usec uint64) error {
	if usec > uint64(maxTimeout/time.Microsecond) {
		return fmt.Errorf("is over a year: 0 waits for ever")
	}
	o.TimeoutUsec = usec
	return nil
}

func setAttempts(o *opening, n uint32) error {
	if n < 1 || n > api.MaxAttempts {
		return fmt.Errorf("is %d, which is not 1 to %d", n, api.MaxAttempts)
	}
	o.Attempts = n
	return nil
}
