// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// TestPhases has a module write down every function of it that libpam calls.
func TestPhases(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	args := ""
	for _, phase := range []string{"auth", "setcred", "delcred", "account", "open", "close"} {
		args += " " + phase + ":log=" + log
	}
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"log": system.Every(modules.Probe(t), args)}})
	for _, test := range []struct{ phases, want string }{
		{"", "auth account setcred open close delcred end 0"},
		{"authenticate account credentials session", "auth account setcred open close delcred end 0"},
		{"session credentials account authenticate", "auth account setcred open close delcred end 0"},
		{"authenticate", "auth end 0"},
		{"account", "account end 0"},
		{"credentials", "setcred delcred end 0"},
		{"session", "open close end 0"},
		{"authenticate account", "auth account end 0"},
		{"account session", "account open close end 0"},
		{"account credentials session", "account setcred open close delcred end 0"},
		{"credentials session", "setcred open close delcred end 0"},
	} {
		t.Run("phases "+test.phases, func(t *testing.T) {
			write(t, log, "")
			a := newAgent(t, s.System)
			a.want(a.run("log", "anna", api.Options{Phases: strings.Fields(test.phases)}), result{})
			if got := strings.Join(strings.Fields(read(t, log)), " "); got != test.want {
				t.Errorf("the module was called for %q, not %q", got, test.want)
			}
		})
	}
}

// The phases of pam_unix that the caller leaves out are not held against the
// user.
func TestPhasesOfUnix(t *testing.T) {
	s, _ := namespace(t, nil)
	right := question(asksPassword, password)
	for _, test := range []struct {
		name, user string
		phases     []string
		turns      []turn
		result     result
	}{
		{"who has expired may still prove who he is", "gone", authenticate, []turn{right}, result{}},
		{"and is refused in account without a question", "gone", []string{"account"}, nil, result{api.AccountUnavailable, 13, "(PAM_ACCT_EXPIRED)"}},
		{"a session without authentication, as cron does", "anna", []string{"account", "credentials", "session"}, nil, result{}},
		{
			"a password is changed without authentication before", "forced", []string{"account"}, []turn{
				{asksCurrent, password, []string{forced, changing}}, question(asksNew, newPassword), question(asksRetype, newPassword),
			}, result{},
		},
		{"a session of a user whom nobody knows", "nobody-knows", []string{"account", "session"}, nil, result{api.AccountUnavailable, 10, "(PAM_USER_UNKNOWN)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run("unix", test.user, api.Options{Phases: test.phases}, test.turns...), test.result)
		})
	}
}

func TestSilentModulesSayNothing(t *testing.T) {
	s, _ := namespace(t, nil)
	for _, test := range []struct {
		name   string
		silent bool
		said   []string
	}{
		{"not silent", false, []string{"info Warning: your password will expire in 5 days."}},
		{"silent", true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAgent(t, s.System)
			e := a.run("unix", "warned", api.Options{Silent: test.silent}, question(asksPassword, password))
			a.wantSaid(e, test.said...)
			a.want(e, result{})
		})
	}
}

// TestLocale has a broker that sees a German locale: the one of the C language,
// under another name, since only the language of the messages counts.
func TestLocale(t *testing.T) {
	locales, messages := t.TempDir(), t.TempDir()
	for _, name := range []string{"C.utf8", "de_DE.utf8"} {
		if out, err := exec.Command("cp", "-rL", "/usr/lib/locale/C.utf8", filepath.Join(locales, name)).CombinedOutput(); err != nil {
			t.Fatalf("copy a locale: %v\n%s", err, out)
		}
	}
	german := filepath.Join(messages, "de", "LC_MESSAGES")
	if err := os.MkdirAll(german, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(german, "Linux-PAM.mo"), catalogue(t, "Content-Type: text/plain; charset=UTF-8\n", "Password: ", "Paßwort: "))
	s, _ := namespace(t, nil, system.Mount{From: locales, To: "/usr/lib/locale"}, system.Mount{From: messages, To: "/usr/share/locale"})
	for _, test := range []struct{ locale, asks string }{
		{"", asksPassword},
		{"C.UTF-8", asksPassword},
		{"de_DE.UTF-8", "secret Paßwort: "},
	} {
		t.Run("locale "+test.locale, func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run("unix", "anna", api.Options{Locale: test.locale}, question(test.asks, password)), result{})
		})
	}
	t.Run("a locale that the system does not have", func(t *testing.T) {
		a := newAgent(t, s.System)
		if _, err := a.Open(within(t), "unix", "anna", api.Options{Locale: "tlh_KX.UTF-8"}); err == nil || !strings.Contains(err.Error(), "locale -a") {
			t.Errorf("got %v", err)
		}
	})
}

// catalogue is a file of messages as gettext(3) reads it, with one message.
func catalogue(t *testing.T, head, message, translation string) string {
	t.Helper()
	const tables = 7 * 4
	strs, at := []string{"", message, head, translation}, uint32(tables+4*8)
	words, text := []uint32{0x950412de, 0, 2, tables, tables + 2*8, 0, 0}, ""
	for _, s := range strs {
		words = append(words, uint32(len(s)), at)
		text += s + "\x00"
		at += uint32(len(s)) + 1
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, words); err != nil {
		t.Fatal(err)
	}
	return b.String() + text
}
