// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// polkit took a uid over INT_MAX for root.
func TestCVE_2018_19788_AUIDOverINT_MAX(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: strings.ReplaceAll(opens, "60001", "4000000000")}, func(t *testing.T, b *bench) {
		distant := b.join(t, system.Distant)
		session, prompt := b.vault(t)
		wantDenied(t, "to see", distant.call(session, api.SessionInterface+".Wait", api.StateOpen).Err)
		wantDenied(t, "to answer", distant.manager("AnswerPrompt", prompt, answer).Err)
		wantDenied(t, "to open", distant.manager("OpenSession", service, user, options{}).Err)
		mine := distant.open("permit", "distant", nil)
		if paths := distant.sessions(t); !slices.Equal(paths, []dbus.ObjectPath{mine}) {
			t.Errorf("it sees %v, and has %s", paths, mine)
		}
	})
}

// authd let a user who was known to PAM by one name come in by another: PAM_USER
// changed after it had been decided upon.
func TestCVE_2024_9313_AUserWhoIsChangedIsRefused(t *testing.T) {
	const rule = `
[[rule]]
action = "open"
service = "turn-*"
caller = "uid:60001"
verdict = "allow"
`
	for _, phase := range []string{"auth", "account", "setcred", "open"} {
		t.Run(phase, func(t *testing.T) {
			b := start(t, system.MachineOptions{Policy: rule, Options: system.Options{Stacks: map[string]string{
				"turn-coat": system.Every("PROBE", phase+":setuser=root"),
			}}})
			opener := b.join(t, system.Opener)
			session := opener.open("turn-coat", "anna", options{"linger": dbus.MakeVariant(true)})
			if state, text := b.wait(t, session, api.StateOpen); state != api.StateFailed {
				t.Errorf("the session is %s: %s", state, text)
			}
		})
	}
}

// authd gave a user's first session the groups of root: those of whoever opened
// it were not dropped.
func TestCVE_2025_5689_ASessionHasTheGroupsOfItsUser(t *testing.T) {
	file := filepath.Join(t.TempDir(), "groups")
	b := start(t, system.MachineOptions{Options: system.Options{Stacks: map[string]string{
		"groups": system.Every("PROBE", "[open:run=id -G >> "+file+"]"),
	}}})
	for _, name := range []string{"agent", "anna"} { // only the first is an operator
		b.wait(t, open(t, b.root, "groups", name, nil), api.StateOpen)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	want := [][]string{{"60003", "60100"}, {"60004"}}
	if len(lines) != len(want) {
		t.Fatalf("the modules have seen %q", lines)
	}
	for i, line := range lines {
		got := slices.DeleteFunc(strings.Fields(line), func(group string) bool { return group == "0" }) // modules run as root
		if slices.Sort(got); !slices.Equal(got, want[i]) {
			t.Errorf("session %d has the groups %v, and its user %v", i, got, want[i])
		}
	}
}

// A user logged in over the network and said to sit at the seat, by variables
// that pam_systemd takes from the PAM environment; polkit believed it.
func TestCVE_2019_3842_NobodySaysWhereTheySit(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener := b.join(t, system.Opener)
	for _, entry := range []string{
		"XDG_SEAT=seat0", "XDG_VTNR=1", "XDG_SESSION_ID=c1", "XDG_SESSION_CLASS=greeter", "XDG_SESSION_TYPE=tty",
		"XDG_SESSION_DESKTOP=x", "XDG_RUNTIME_DIR=/run/user/0", "SYSTEMD_HOME_SUSPEND=0", "DISPLAY=:0", "PAM_USER=root",
	} {
		o := options{"environment": dbus.MakeVariant([]string{"LANG=C", entry})}
		name := errorName(t, opener.manager("OpenSession", "permit", "anna", o).Err)
		if name != api.ErrorPrefix+string(api.InvalidArgument) && name != api.ErrorPrefix+string(api.AccessDenied) {
			t.Errorf("%s: %q", entry, name)
		}
	}
	if paths := opener.sessions(t); len(paths) != 0 {
		t.Errorf("there are sessions: %v", paths)
	}
}

// A bus policy that allowed too much let anybody call what was another
// service's: tuned took calls of everybody. Ours opens the way to the broker
// and to nobody else.
func TestCVE_2024_45752_TheBusPolicyOpensNothingElse(t *testing.T) {
	onEitherBus(t, system.MachineOptions{}, func(t *testing.T, b *bench) {
		other, victim := b.join(t, system.Other), b.join(t, system.Agent)
		if err := victim.ExportAll(echo{}, api.RootPath, api.ManagerInterface); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{victim.Names()[0], b.root.Names()[0]} {
			for _, member := range []string{api.ManagerInterface + ".Ping2", api.SessionInterface + ".Close", "org.example.Member"} {
				err := other.Object(to, api.RootPath).Call(member, 0).Err
				if name := errorName(t, err); name != "org.freedesktop.DBus.Error.AccessDenied" {
					t.Errorf("%s to a connection that is not the broker's: %v", member, err)
				}
			}
		}
		for _, name := range []string{api.BusName, api.BusName + ".More", "org.pamprompt", "org.freedesktop.PolicyKit1"} {
			if _, err := other.RequestName(name, 0); errorName(t, err) != "org.freedesktop.DBus.Error.AccessDenied" {
				t.Errorf("it may own %s: %v", name, err)
			}
		}
		for _, member := range []string{"org.freedesktop.DBus.UpdateActivationEnvironment", "org.freedesktop.DBus.Debug.Stats.GetStats"} {
			if err := other.BusObject().Call(member, 0).Err; err == nil {
				t.Errorf("it may call %s of the bus", member)
			}
		}
		victim.settle()
		for _, m := range victim.heard() {
			if m.Type == dbus.TypeMethodCall {
				t.Errorf("it was called: %v", m)
			}
		}
	})
}

type echo struct{}

func (echo) Ping2() *dbus.Error { return nil }

// sddm opened a session for a user who had not authenticated, once there was
// one to come back to.
func TestCVE_2020_27837_NobodySkipsAuthentication(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener := b.join(t, system.Opener)
	for _, phases := range [][]string{
		{"session"}, {"account"}, {"credentials"}, {"account", "credentials", "session"}, {"credentials", "session"},
		{"authenticate", "session"}, {"authenticate", "credentials"},
	} {
		o := options{"phases": dbus.MakeVariant(phases)}
		name := errorName(t, opener.manager("OpenSession", "permit", "anna", o).Err)
		if name != api.ErrorPrefix+string(api.InvalidArgument) && name != api.ErrorPrefix+string(api.AccessDenied) {
			t.Errorf("%v: %q", phases, name)
		}
	}
	// A session that waits for its answer is not open, whatever is done to it.
	session := opener.open("ask", "anna", asAgent())
	prompt, _ := opener.prompt(session)
	if err := opener.manager("CancelPrompt", prompt).Err; err != nil {
		t.Fatal(err)
	}
	if state, text := b.wait(t, session, api.StateOpen); state != api.StateFailed {
		t.Errorf("a session whose question was cancelled is %s: %s", state, text)
	}
}

// The completion of fscrypt's command line ran what a mount point was called.
// What ours does with such a name TestNamesAreNoCommandsToAShell of
// cmd/pamprompt-client tries; another one needs a test too. A name is no command
// either where a session is opened and listed.
func TestCVE_2022_25328_NamesAreNoCommands(t *testing.T) {
	tested := filepath.Join("..", "..", "cmd", "pamprompt-client", "complete")
	if text, err := os.ReadFile(tested + "_test.go"); err != nil || !strings.Contains(string(text), "func TestNamesAreNoCommandsToAShell(") {
		t.Errorf("nobody tests what the completion does with a name that is a command: %v", err)
	}
	for _, dir := range []string{"dist", "cmd"} {
		if err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !strings.HasPrefix(path, tested) && (strings.Contains(path, "complet") || strings.HasSuffix(path, ".bash") || strings.HasPrefix(d.Name(), "_pamprompt")) {
				t.Errorf("%s: test here what it does with the name of a session's user that is a command", path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	b := start(t, system.MachineOptions{})
	trace := filepath.Join(b.Dir, "trace")
	command := "$(touch " + trace + ")`touch " + trace + "`;touch " + trace
	for _, args := range [][]string{{"open", "permit", command}, {"open", command, "anna"}, {"list"}, {"prompts"}} {
		cmd := system.Command(system.Identity{}, b.Programs.Client, args...)
		cmd.Env = b.Environment()
		out, _ := cmd.CombinedOutput() // it may well fail
		if strings.Contains(string(out), "touch: ") {
			t.Errorf("%q: %s", args, out)
		}
	}
	if _, err := os.Stat(trace); err == nil {
		t.Error("a name was run")
	}
}

// systemd's password agents, 2026: a newline in the text of a question began a
// line of its own in the file of the request, such as another Socket=.
func TestANewlineAddsNothingToARequest(t *testing.T) {
	dir := t.TempDir()
	const evil = "\nSocket=/run/evil\r\n[Ask]\nId=evil"
	b := start(t, system.MachineOptions{
		Policy: strings.ReplaceAll(opens, `"ask"`, `"line*"`),
		Options: system.Options{
			BrokerArgs: []string{"--ask-password=" + dir},
			Stacks: map[string]string{"lines": system.Every("PROBE",
				fmt.Sprintf("auth:error=hex:%x", "No."+evil), fmt.Sprintf("auth:ask=secret,hex:%x", "Password"+evil+": "))},
		},
	})
	opener := b.join(t, system.Opener)
	for _, o := range []options{asAgent(), {"agent": dbus.MakeVariant(true), "reason": dbus.MakeVariant("why" + evil)}} {
		var id uint64
		var session dbus.ObjectPath
		if err := opener.manager("OpenSession", "lines", "anna", o).Store(&id, &session); err != nil {
			wantCode(t, "a reason of several lines", err, api.InvalidArgument) // which is well too
			continue
		}
		prompt, _ := opener.prompt(session)
		checkRequest(t, dir)
		if err := opener.manager("CancelPrompt", prompt).Err; err != nil {
			t.Fatal(err)
		}
		b.wait(t, session, api.StateClosed)
	}
}

// checkRequest waits for the request of the session's question, and checks that
// it has one section, and each key once.
func checkRequest(t *testing.T, dir string) {
	t.Helper()
	var text string
	system.AwaitFiles(t, dir, func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "ask.*"))
		for _, file := range files {
			if raw, err := os.ReadFile(file); err == nil && strings.Contains(string(raw), "pamprompt:lines:anna") {
				text = string(raw)
				return true
			}
		}
		return false
	})
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if seen[key] || key != "Message" && strings.Contains(value, "evil") {
			t.Errorf("the request has the line %q:\n%s", line, text)
		}
		seen[key] = true
	}
	if !seen["[Ask]"] || !seen["Socket"] || !seen["Message"] {
		t.Errorf("it is no request:\n%s", text)
	}
}
