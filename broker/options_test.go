// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"google.golang.org/protobuf/proto"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

func TestOptionsOfOpenSession(t *testing.T) {
	got, err := parseOptions(variants(map[string]any{
		"tty": "/dev/tty1", "rhost": "host", "ruser": "anna", "xdisplay": ":0", "reason": "to unlock her home",
		"environment": []string{"A=1", "B="}, "phases": []string{"session", "authenticate"}, "timeout": uint64(5_000_000),
		"attempts": uint32(3), "linger": true, "agent": true, "silent": true, "locale": "de_DE.UTF-8", "ask-password": "fallback",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := &worker.Options{
		Tty: "/dev/tty1", Rhost: "host", Ruser: "anna", Xdisplay: ":0", Reason: "to unlock her home",
		Environment: []string{"A=1", "B="}, Phases: []worker.Phase{worker.Phase_PHASE_AUTHENTICATE, worker.Phase_PHASE_SESSION},
		TimeoutUsec: 5_000_000, Attempts: 3, Linger: true, Agent: true, Silent: true, Locale: "de_DE.UTF-8",
		AskPassword: "fallback",
	}
	if !proto.Equal(got.Options, want) || got.runs() {
		t.Error("the options are not what was given")
	}
	if got, err = parseOptions(nil); err != nil || got.GetAttempts() != 1 {
		t.Errorf("without options: %v, want one attempt", err)
	}
}

func TestBadOptionsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		option string
		value  any
		code   api.Code
		says   string
	}{
		{"an unknown option", "colour", "red", api.UnknownOption, `"colour"; it has agent, alternatives, ask-password, attempts`},
		{"an option with a long name", strings.Repeat("x", 70000), "", api.UnknownOption, "..."},
		{"a number for a string", "tty", uint32(1), api.InvalidArgument, `option tty is a string, not of type "u"`},
		{"a string for a number", "attempts", "3", api.InvalidArgument, `not of type "s"`},
		{"an int32 for a uint32", "attempts", int32(3), api.InvalidArgument, `not of type "i"`},
		{"a string for a list", "phases", "session", api.InvalidArgument, `not of type "s"`},
		{"a word for ask-password that is none", "ask-password", "maybe", api.InvalidArgument, `option ask-password is "maybe", which is none of yes, no, fallback`},
		{"a boolean for ask-password", "ask-password", true, api.InvalidArgument, `not of type "b"`},
		{"no attempts", "attempts", uint32(0), api.InvalidArgument, "is 0, which is not 1 to 16"},
		{"too many attempts", "attempts", uint32(17), api.InvalidArgument, "is 17"},
		{"a timeout of centuries", "timeout", ^uint64(0), api.InvalidArgument, "over a year"},
		{"a phase that is none", "phases", []string{"login"}, api.InvalidArgument, `"login"`},
		{"a phase twice", "phases", []string{"session", "session"}, api.InvalidArgument, "twice"},
		{"no phase", "phases", []string{}, api.InvalidArgument, "empty"},
		{"a variable without a value", "environment", []string{"PATH"}, api.InvalidArgument, `"PATH"`},
		{"a variable without a name", "environment", []string{"=x"}, api.InvalidArgument, `"=x"`},
		{"a variable with a space in its name", "environment", []string{"A B=x"}, api.InvalidArgument, `"A B=x"`},
		{"an environment that is too long", "environment", []string{"A=" + strings.Repeat("x", 1<<16)}, api.InvalidArgument, "65539 bytes"},
		{"a reason that is too long", "reason", strings.Repeat("x", 4097), api.InvalidArgument, "4097 bytes"},
		{"a reason with an escape sequence", "reason", "\x1b[2J", api.InvalidArgument, "control character"},
		{"a reason of two lines", "reason", "a\nb", api.InvalidArgument, "control character"},
		{"a command of nothing", "command", []string{}, api.InvalidArgument, "option command names no program"},
		{"a command without a name", "command", []string{"", "x"}, api.InvalidArgument, "option command names no program"},
		{"a command with a relative path", "command", []string{"bin/true"}, api.InvalidArgument, `the program "bin/true": give an absolute path`},
		{"a command of too many arguments", "command", slices.Repeat([]string{""}, 1025), api.InvalidArgument, "names no program"},
		{"a command of too many words", "command", slices.Repeat([]string{"x"}, 1025), api.InvalidArgument, "has 1025 arguments, at most 1024"},
		{"a command that is too long", "command", []string{"true", strings.Repeat("x", 65531)}, api.InvalidArgument, "is 65537 bytes long, at most 65536"},
		{"a string for a command", "command", "true", api.InvalidArgument, `not of type "s"`},
		{"two descriptors", "stdio", []dbus.UnixFDIndex{0, 1}, api.InvalidArgument, "has 2 descriptors, not 3"},
		{"numbers for descriptors", "stdio", []uint32{0, 1, 2}, api.InvalidArgument, `not of type "au"`},
		{"stdio without a command", "stdio", []dbus.UnixFDIndex{0, 1, 2}, api.InvalidArgument, "option stdio is of a command, and there is neither option command nor login-shell"},
		{"a relative directory", "working-directory", "srv", api.InvalidArgument, `is "srv", which is neither absolute nor begins with ~/`},
		{"somebody else's home", "working-directory", "~root", api.InvalidArgument, "neither absolute nor begins with ~/"},
		{"a directory that is too long", "working-directory", "/" + strings.Repeat("x", 4096), api.InvalidArgument, "4097 bytes"},
		{"a directory without a command", "working-directory", "/", api.InvalidArgument, "option working-directory is of a command"},
		{"a terminal without a command", "controlling-terminal", true, api.InvalidArgument, "option controlling-terminal is of a command"},
		{"a locale with a path", "locale", "../../etc", api.InvalidArgument, "no name of a locale"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseOptions(map[string]dbus.Variant{c.option: dbus.MakeVariant(c.value)})
			if !errors.Is(err, c.code) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %s with %q", err, c.code, c.says)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
}

func TestOptionsOfACommand(t *testing.T) {
	all := map[string]any{
		"command": []string{"sh", "-c", "echo\n\x1b"}, "stdio": []dbus.UnixFDIndex{2, 0, 0}, "working-directory": "~", "controlling-terminal": true,
	}
	got, err := parseOptions(variants(all))
	if err != nil {
		t.Fatal(err)
	}
	want := &worker.Command{Arguments: []string{"sh", "-c", "echo\n\x1b"}, Directory: "~", Stdio: true, Terminal: true}
	if !proto.Equal(&got.command, want) || !slices.Equal(got.stdio, []dbus.UnixFDIndex{2, 0, 0}) {
		t.Errorf("the command is %v with %v", &got.command, got.stdio)
	}
	delete(all, "stdio")
	if _, err = parseOptions(variants(all)); !errors.Is(err, api.InvalidArgument) || !strings.Contains(err.Error(), "needs option stdio") {
		t.Errorf("a terminal without stdio: %v", err)
	}
	just := []string{"true", strings.Repeat("x", api.MaxCommand-len("true")-2)}
	if _, err = parseOptions(variants(map[string]any{"command": just})); err != nil {
		t.Errorf("a command that just fits: %v", err)
	}
}

func TestOptionsThatDoNotGoTogether(t *testing.T) {
	command := []string{"true"}
	for _, c := range []struct {
		name  string
		given map[string]any
		says  string // empty if it is right
	}{
		{"a login shell", map[string]any{"login-shell": true, "working-directory": "~/src"}, ""},
		{"no login shell", map[string]any{"login-shell": false, "command": command}, ""},
		{"a login shell and a command", map[string]any{"login-shell": true, "command": command}, "are two commands"},
		{"no login shell alone", map[string]any{"login-shell": false, "working-directory": "~"}, "neither option command nor login-shell"},
		{"an environment of nothing", map[string]any{"command-environment": []string{"A=1"}}, "option command-environment is of a command"},
		{"an environment that is none", map[string]any{"command": command, "command-environment": []string{"A"}}, `command-environment has the entry "A"`},
		{"arguments and environment that are too long together", map[string]any{
			"command": []string{"true", strings.Repeat("x", 40000)}, "command-environment": []string{"A=" + strings.Repeat("x", 30000)},
		}, "are 70009 bytes long together, at most 65536"},
		{"authentication of no command", map[string]any{"authenticate": "unless-permitted"}, "option authenticate is of a command"},
		{"authentication by a word that is none", map[string]any{"command": command, "authenticate": "no"}, `is "no", which is none of always, unless-permitted`},
		{"authentication and phases", map[string]any{"command": command, "authenticate": "unless-permitted", "phases": []string{"session"}}, "give one of them"},
		{"authentication always and phases", map[string]any{"command": command, "authenticate": "always", "phases": []string{"session"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseOptions(variants(c.given))
			if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, api.InvalidArgument) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

func TestAuthenticationIsLeftOutOnlyWhereThatWasAskedFor(t *testing.T) {
	rest := []worker.Phase{worker.Phase_PHASE_ACCOUNT, worker.Phase_PHASE_CREDENTIALS, worker.Phase_PHASE_SESSION}
	for word, want := range map[string][]worker.Phase{"always": nil, "unless-permitted": rest} {
		o, err := parseOptions(variants(map[string]any{"command": []string{"true"}, "authenticate": word}))
		if err != nil || o.GetPhases() != nil {
			t.Fatalf("%s: %v, %v", word, o.GetPhases(), err)
		}
		if o.permitted(); !slices.Equal(o.GetPhases(), want) {
			t.Errorf("%s: the phases are %v", word, o.GetPhases())
		}
	}
}

func TestTheCommandThatIsShown(t *testing.T) {
	long := strings.Repeat("x", 1021)
	for _, c := range []struct {
		name            string
		arguments, want []string
	}{
		{"a short one", []string{"ls", "-l"}, []string{"ls", "-l"}},
		{"none", nil, nil},
		{"one that just fits", []string{"l", long}, []string{"l", long}},
		{"one that does not", []string{"ls", long, "x"}, []string{"ls", "..."}},
		{"one of many arguments", slices.Repeat([]string{""}, 1025), append(slices.Repeat([]string{""}, 1024), "...")},
	} {
		if got := shownCommand(c.arguments); !slices.Equal(got, c.want) {
			t.Errorf("%s: %d arguments", c.name, len(got))
		}
	}
}

func TestNamesOfServicesAndUsers(t *testing.T) {
	long := strings.Repeat("x", 70000)
	for _, c := range []struct {
		name          string
		service, user string
		says          string
	}{
		{"usual ones", "systemd-user", "anna", ""},
		{"a domain's user", "sshd", `DOMAIN\Anna Maria`, ""},
		{"a mail address", "imap", "anna@example.org", ""},
		{"a user that is not ASCII", "login", "jürgen", ""},
		{"an empty service", "", "anna", "the service is empty"},
		{"an empty user", "login", "", "the user is empty"},
		{"a service with a path", "../shadow", "anna", `"../shadow"`},
		{"a service with a slash", "a/b", "anna", `"a/b"`},
		{"a service with a NUL", "a\x00b", "anna", `"a\x00b"`},
		{"a service with a newline", "a\nb", "anna", `"a\nb"`},
		{"a service of 70,000 characters", long, "anna", "70000 bytes"},
		{"a service in capital letters", "Login", "anna", `"Login"`},
		{"a hidden service", ".hidden", "anna", `".hidden"`},
		{"a user with a slash", "login", "a/b", `"a/b"`},
		{"a user with a NUL", "login", "a\x00b", `"a\x00b"`},
		{"a user with a newline", "login", "root\n", `"root\n"`},
		{"a user with a colon", "login", "root:x", `"root:x"`},
		{"a user that looks like an option", "login", "-f", `"-f"`},
		{"a user that is a directory", "login", "..", `".."`},
		{"a user of 70,000 characters", "login", long, "70000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := errors.Join(checkService(c.service), checkUser(c.user))
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, api.InvalidArgument) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want InvalidArgument with %q", err, c.says)
			}
		})
	}
}

// FuzzOptions: options come as a{sv} from anybody who may open a session. What
// is accepted must be a Start that the worker accepts.
func FuzzOptions(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzOptions"); err != nil || len(seeds) == 0 {
		f.Fatal("the committed seeds are missing")
	}
	f.Fuzz(func(t *testing.T, name string, signature string, body []byte) {
		given := oneOf(name, signature, body)
		if given == nil {
			return
		}
		options, err := parseOptions(given)
		if err != nil {
			if own := new(api.Error); !errors.As(err, &own) || !own.Code.Known() {
				t.Fatalf("an error of no name: %v", err)
			}
			return
		}
		packet := &worker.ToWorker{Message: &worker.ToWorker_Start{Start: &worker.Start{
			Session: 1, Service: "s", User: "u", Options: options.Options, Owner: &worker.Owner{},
		}}}
		if options.runs() {
			packet.GetStart().Command = &options.command
		}
		if err := worker.Check(packet); err != nil {
			t.Fatalf("option %q was accepted, and then: %v", name, err)
		}
	})
}

// oneOf is an a{sv} of one entry; nil when the bytes are no value of the signature.
func oneOf(name, signature string, body []byte) map[string]dbus.Variant {
	sig, err := dbus.ParseSignature(signature)
	if err != nil {
		return nil
	}
	value, err := decodeAs(sig, body)
	if err != nil {
		return nil
	}
	return map[string]dbus.Variant{name: value}
}

// A fuzz target that is given nothing finds nothing: godbus's Signature.Single says
// of every signature that is right that it is not.
func TestFuzzTargetsAreGivenValues(t *testing.T) {
	for signature, body := range map[string]string{
		"s": "\x02\x00\x00\x00hi\x00", "u": "\x01\x00\x00\x00", "as": "\x07\x00\x00\x00\x02\x00\x00\x00hi\x00",
	} {
		if given := oneOf("x", signature, []byte(body)); given == nil || given["x"].Signature().String() != signature {
			t.Errorf("of type %q there is %v", signature, given)
		}
	}
	for _, signature := range []string{"", "uu", "a", "?"} {
		if given := oneOf("x", signature, make([]byte, 8)); given != nil {
			t.Errorf("of type %q there is %v", signature, given)
		}
	}
}

// decodeAs makes a value of a signature out of bytes, as godbus does.
func decodeAs(sig dbus.Signature, body []byte) (v dbus.Variant, err error) {
	m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/")), dbus.FieldInterface: dbus.MakeVariant("a.b"), dbus.FieldMember: dbus.MakeVariant("C"),
		dbus.FieldSignature: dbus.MakeVariant(sig),
	}}
	var raw bytes.Buffer
	if err := m.EncodeTo(&raw, binary.LittleEndian); err != nil {
		return v, err
	}
	binary.LittleEndian.PutUint32(raw.Bytes()[4:], uint32(len(body)))
	raw.Write(body)
	got, err := dbus.DecodeMessage(&raw)
	if err != nil || len(got.Body) != 1 {
		return v, errors.Join(errors.New("not decodable"), err)
	}
	defer func() {
		if recover() != nil {
			err = errors.New("not a variant")
		}
	}()
	return dbus.MakeVariantWithSignature(got.Body[0], sig), nil
}
