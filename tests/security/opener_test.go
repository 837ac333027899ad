// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// opens lets the opener open two services, for whomever it likes.
const opens = `
[[rule]]
action = "open"
service = "ask"
caller = "uid:60001"
verdict = "allow"

[[rule]]
action = "open"
service = "permit"
caller = "uid:60001"
verdict = "allow"
`

// asAgent has the opener told of its own session's questions.
func asAgent() options { return options{"agent": dbus.MakeVariant(true)} }

func TestAnOpenerHasItsOwnSessionsAndNoOthers(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opens}, func(t *testing.T, b *bench) {
		opener, other := b.join(t, system.Opener), b.join(t, system.Other).agent()
		theirs, theirPrompt := b.vault(t)
		mine := opener.open("ask", "anna", asAgent())
		prompt, details := opener.prompt(mine)
		if details["owner-uid"].Value() != system.Opener.UID {
			t.Errorf("the owner is uid %v", details["owner-uid"])
		}
		if uid, told := details["uid"]; told {
			t.Errorf("it was told that anna is uid %v", uid)
		}
		if paths := opener.sessions(t); !slices.Equal(paths, []dbus.ObjectPath{mine}) {
			t.Errorf("it sees %v, and has %s", paths, mine)
		}
		wantDenied(t, "to see root's session", opener.call(theirs, api.SessionInterface+".Wait", api.StateOpen).Err)
		wantDenied(t, "to answer root's prompt", opener.manager("AnswerPrompt", theirPrompt, answer).Err)
		wantDenied(t, "another's answer", other.manager("AnswerPrompt", prompt, "right").Err)
		wantDenied(t, "another's end", other.call(mine, api.SessionInterface+".Close").Err)
		if err := opener.manager("AnswerPromptFD", prompt, pipeWith(t, "right")).Err; err != nil {
			t.Fatalf("its own answer: %v", err)
		}
		var state, text string
		var result int32
		if err := opener.call(mine, api.SessionInterface+".Wait", api.StateOpen).Store(&state, &result, &text); err != nil || state != api.StateOpen {
			t.Fatalf("its session is %s: %s, %v", state, text, err)
		}
		var properties map[string]dbus.Variant
		if err := opener.call(mine, "org.freedesktop.DBus.Properties.GetAll", api.SessionInterface).Store(&properties); err != nil {
			t.Fatal(err)
		}
		if properties["UID"].Value() == system.Anna.UID || properties["OwnerUID"].Value() != system.Opener.UID {
			t.Errorf("its properties are %v", properties)
		}
		if err := opener.call(mine, api.SessionInterface+".Close").Err; err != nil {
			t.Error(err)
		}
		for _, p := range []*person{opener, other} {
			p.settle()
			for _, m := range p.heard() {
				for _, private := range []string{question, notice, reason, service} {
					if strings.Contains(fmt.Sprint(m.Body), private) {
						t.Errorf("uid %d was sent %q", p.UID, private)
					}
				}
			}
		}
		if n := len(other.signals("Prompt")); n != 0 {
			t.Errorf("another agent was told of %d prompts", n)
		}
	})
}

// sessions are those that somebody sees.
func (p *person) sessions(t *testing.T) []dbus.ObjectPath {
	t.Helper()
	var list []struct {
		ID            uint64
		Service, User string
		Owner         uint32
		State         string
		Path          dbus.ObjectPath
	}
	if err := p.manager("ListSessions").Store(&list); err != nil {
		t.Fatal(err)
	}
	var paths []dbus.ObjectPath
	for _, one := range list {
		paths = append(paths, one.Path)
	}
	return paths
}

// pipeWith is the end of a pipe from which a text can be read.
func pipeWith(t *testing.T, text string) dbus.UnixFD {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dbus.UnixFD(r.Fd())
}

// A user hears of the uid behind a name where it is their own.
func TestAnOpenerHearsOfItsOwnUID(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener := b.join(t, system.Opener)
	_, details := opener.prompt(opener.open("ask", "opener", asAgent()))
	if details["uid"].Value() != system.Opener.UID {
		t.Errorf("it was told %v", details["uid"])
	}
}

// What no rule names is refused, in the same words whether there is such a
// service.
func TestAnOpenerOpensOnlyWhatARuleNames(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener, other := b.join(t, system.Opener), b.join(t, system.Other)
	for _, service := range []string{service, "polkit-1", "su", "nosuch"} {
		wantDenied(t, service, opener.manager("OpenSession", service, "anna", options{}).Err)
	}
	wantDenied(t, "another user", other.manager("OpenSession", "permit", "anna", options{}).Err)
	// Where it may, it hears that there is no such user from PAM alone.
	b.wait(t, opener.open("permit", "nosuchuser", options{"linger": dbus.MakeVariant(true)}), api.StateOpen)
}

// The session of a user ends when the user's connection does.
func TestAnOpenersSessionEndsWithIt(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opens}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		session := opener.open("ask", "anna", nil)
		gone := b.removed(t, session)
		opener.Leave(t)
		<-gone
	})
}

// An opening may say where the user sits, and go without authenticating, if
// root asks for it.
func TestAnOpenerMakesNoClaims(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener := b.join(t, system.Opener)
	list := func(values ...string) dbus.Variant { return dbus.MakeVariant(values) }
	for _, c := range []struct {
		option string
		value  dbus.Variant
		root   bool // may
	}{
		{"tty", dbus.MakeVariant("tty1"), true},
		{"rhost", dbus.MakeVariant("trusted.example"), true},
		{"ruser", dbus.MakeVariant("root"), true},
		{"xdisplay", dbus.MakeVariant(":0"), true},
		{"phases", list("session"), true},
		{"phases", list("account", "session"), true},
		{"phases", list("authenticate", "session"), true},
		{"environment", list("XDG_SEAT=seat0"), true},
		{"environment", list("PATH=/tmp"), true},
		{"environment", list("LANG=/tmp/x"), true},
		{"environment", list("LD_PRELOAD=/tmp/x.so"), false},
		{"environment", list("LANG=C", "GLIBC_TUNABLES=x=y"), false},
		{"environment", list("LISTEN_FDS=3"), false},
	} {
		t.Run(fmt.Sprint(c.option, c.value), func(t *testing.T) {
			o := options{c.option: c.value}
			name := errorName(t, opener.manager("OpenSession", "permit", "anna", o).Err)
			if name != api.ErrorPrefix+string(api.InvalidArgument) && name != api.ErrorPrefix+string(api.AccessDenied) {
				t.Errorf("the opener: %q", name)
			}
			err := call(b.root, api.RootPath, api.ManagerInterface+".OpenSession", "permit", "anna", o).Err
			if (err == nil) != c.root {
				t.Errorf("root: %v", err)
			}
		})
	}
	for _, o := range []options{
		{"environment": list("LANG=de_DE.UTF-8", "LC_ALL=C", "TERM=xterm")},
		{"phases": list("authenticate")}, {"phases": list("authenticate", "account", "credentials")},
	} {
		b.wait(t, opener.open("permit", "anna", o), api.StateOpen)
	}
}
