// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		name, entry string
		user, root  bool // may set it
	}{
		{"a language", "LANG=de_DE.UTF-8@euro", true, true},
		{"languages", "LANGUAGE=de:en", true, true},
		{"a category", "LC_TIME=C", true, true},
		{"a terminal", "TERM=xterm-256color", true, true},
		{"colours", "COLORTERM=truecolor", true, true},
		{"no colours", "NO_COLOR=", true, true},
		{"a locale of one's own", "LC_ALL=/tmp/locale", false, true},
		{"a terminal description of one's own", "TERM=../../tmp/x", false, true},
		{"what printf obeys", "LANG=%n", false, true},
		{"an escape sequence", "TERM=\x1b[2J", false, true},
		{"no UTF-8", "LC_ALL=\xff", false, true},
		{"a NUL", "LANG=C\x00", false, false},
		{"a name that only begins like another", "LANGX=C", false, true},
		{"a name in small letters", "lang=C", false, true},
		{"no value", "LANG", false, false},
		{"no name", "=C", false, false},
		{"a name with a space", "LANG X=C", false, false},
		{"a name with a line", "LANG\nLD_PRELOAD=C", false, false},
		{"a function of bash", "BASH_FUNC_ls%%=() { id; }", false, false},
		{"a function of an old bash", "LS=() { id; }", false, false},
		{"whatever else", "EDITOR=ed", false, true},
		// CVE-2019-3842: these made a remote user sit at the seat.
		{"a seat", "XDG_SEAT=seat0", false, true},
		{"a virtual terminal", "XDG_VTNR=1", false, true},
		{"a type of session", "XDG_SESSION_TYPE=x11", false, true},
		{"a class of session", "XDG_SESSION_CLASS=greeter", false, true},
		{"a desktop", "XDG_SESSION_DESKTOP=gnome", false, true},
		{"somebody's session", "XDG_SESSION_ID=c1", false, false},
		{"a place for sockets", "XDG_RUNTIME_DIR=/tmp/x", false, true},
		{"a role", "SELINUX_ROLE_REQUESTED=sysadm_r", false, true},
		{"what sshd saw", "SSH_AUTH_INFO_0=publickey", false, true},
		{"an agent for keys", "SSH_AUTH_SOCK=/tmp/x", false, true},
		{"a home", "HOME=/tmp", false, true},
		{"a path", "PATH=/tmp", false, true},
		{"a name of a user", "USER=root", false, true},
		{"tickets", "KRB5CCNAME=FILE:/tmp/x", false, true},
		{"a display manager's", "SYSTEMD_HOME_SUSPEND=1", false, true},
		{"a library", "LD_PRELOAD=/tmp/x.so", false, false},
		{"another", "LD_AUDIT=x", false, false},
		{"tunables", "GLIBC_TUNABLES=x", false, false},
		{"a character set", "GCONV_PATH=.", false, false},
		{"an allocator", "MALLOC_PERTURB_=1", false, false},
		{"a resolver", "RES_OPTIONS=debug", false, false},
		{"temporary files", "TMPDIR=/tmp/x", false, false},
		{"a shell's file", "BASH_ENV=/tmp/x", false, false},
		{"another shell's", "ENV=/tmp/x", false, false},
		{"fields", "IFS=/", false, false},
		{"a module of perl", "PERL5OPT=-Mx", false, false},
		{"a module of python", "PYTHONPATH=/tmp", false, false},
		{"a configuration of Kerberos", "KRB5_CONFIG=/tmp/x", false, false},
		{"a file for keys", "SSLKEYLOGFILE=/tmp/x", false, false},
		{"an engine", "OPENSSL_CONF=/tmp/x", false, false},
		{"a token's library", "PKCS11_PROVIDER_MODULE=/tmp/x", false, false},
		{"a proxy", "https_proxy=http://x", false, false},
		{"a system bus", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/x", false, false},
		{"the service manager", "NOTIFY_SOCKET=/tmp/x", false, false},
		{"descriptors", "LISTEN_FDS=3", false, false},
		{"credentials", "CREDENTIALS_DIRECTORY=/tmp", false, false},
		{"a watchdog", "WATCHDOG_USEC=1", false, false},
		{"a journal", "JOURNAL_STREAM=1:2", false, false},
		{"systemd's switches", "SYSTEMD_BYPASS_USERDB=1", false, false},
		{"a user for pam_exec", "PAM_USER=root", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for admin, want := range map[bool]bool{false: c.user, true: c.root} {
				err := CheckOpening(admin, Opening{Environment: []string{"LANG=C", c.entry}})
				if (err == nil) != want {
					t.Errorf("admin %v: %v", admin, err)
				}
			}
		})
	}
}

func TestErrorsHoldNamesAndNoValues(t *testing.T) {
	for _, entry := range []string{"LD_PRELOAD=s3cret", "TOKEN=s3cret", "LANG=/s3cret", "LANG=s3cret\x00", "X=()s3cret", "s3cret", "s 3cret=s3cret"} {
		err := CheckOpening(false, Opening{Environment: []string{entry}})
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "s 3cret") {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

// The list that nobody may set and the one that everybody may set do not meet,
// and what is exempt is exempt from something.
func TestTheListsDoNotMeet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var all []string
		for name := range refused.exact {
			all = append(all, name)
		}
		for _, f := range refused.prefixes {
			all = append(all, f.names)
		}
		name := rapid.SampledFrom(all).Draw(rt, "name")
		if _, is := allowedForAll.find(name); is {
			rt.Errorf("%s is allowed and refused", name)
		}
		for _, admin := range []bool{false, true} {
			if err := checkVariable(admin, name+"=x"); err == nil && name != "" {
				rt.Errorf("admin %v may set %s", admin, name)
			}
		}
	})
	for name := range exempt.exact {
		if _, is := refused.find(name); !is {
			t.Errorf("%s is exempt from nothing", name)
		}
	}
}

func TestOnlyTheAdminSaysWhereTheUserSits(t *testing.T) {
	for name, o := range map[string]Opening{"tty": {TTY: "tty1"}, "rhost": {Rhost: "localhost"}, "ruser": {Ruser: "root"}, "xdisplay": {XDisplay: ":0"}} {
		if err := CheckOpening(false, o); err == nil || !strings.HasPrefix(err.Error(), "option "+name+" is root's") {
			t.Errorf("%s: %v", name, err)
		}
		if err := CheckOpening(true, o); err != nil {
			t.Errorf("%s of the admin: %v", name, err)
		}
	}
}

// TestPhases has CVE-2020-27837: a session for who never authenticated.
func TestPhases(t *testing.T) {
	for _, c := range []struct {
		phases string
		user   bool
	}{
		{"", true},
		{"authenticate", true},
		{"authenticate account", true},
		{"account authenticate", true},
		{"authenticate account credentials", true},
		{"session credentials account authenticate", true},
		{"session", false},
		{"account", false},
		{"account credentials session", false},
		{"authenticate session", false},
		{"authenticate account session", false},
		{"authenticate credentials", false},
		{"credentials session", false},
		{"Authenticate", false},
		{"none", false},
	} {
		t.Run(c.phases, func(t *testing.T) {
			o := Opening{Phases: strings.Fields(c.phases)}
			if err := CheckOpening(false, o); (err == nil) != c.user {
				t.Errorf("a user: %v", err)
			}
			if err := CheckOpening(true, o); err != nil {
				t.Errorf("the admin: %v", err)
			}
		})
	}
}
