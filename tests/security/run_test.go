// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pty"
	"github.com/pamprompt/pamprompt/tests/system"
)

// running lets the opener run commands with one service after it has authenticated
// as the user, and with two others if polkit lets it.
const running = opens + `
[[rule]]
action = "run"
service = "run-ask"
caller = "uid:60001"
verdict = "allow"

[[rule]]
action = "run"
service = "run-polkit"
caller = "uid:60001"
verdict = "polkit"

[[rule]]
action = "run"
service = "run-never"
caller = "uid:60001"
verdict = "polkit"
`

// vouching is a polkit that lets the opener run commands, with one service, and everybody
// see sessions.
const vouching = `polkit.addRule(function(action, subject) {
	if (action.id == "org.pamprompt.run" && action.lookup("service") == "run-polkit")
		return polkit.Result.YES;
	if (action.id == "org.pamprompt.open-session" || action.id == "org.pamprompt.list")
		return polkit.Result.YES;
});`

func runStacks() map[string]string {
	asks := "auth required PROBE [auth:ask=secret,Password: ] auth:expect=right\n" +
		"account required pam_permit.so\npassword required pam_permit.so\nsession required pam_permit.so\n"
	return map[string]string{"run-ask": asks, "run-polkit": asks, "run-never": asks}
}

func run(words ...string) options { return options{"command": dbus.MakeVariant(words)} }

// and are more options.
func (o options) and(name string, value any) options {
	o[name] = dbus.MakeVariant(value)
	return o
}

// exit waits for the end of the command, as root, and returns its status.
func (b *bench) exit(t *testing.T, session dbus.ObjectPath) int32 {
	t.Helper()
	b.wait(t, session, api.StateClosed)
	var status dbus.Variant
	if err := call(b.root, session, "org.freedesktop.DBus.Properties.Get", api.SessionInterface, "ExitStatus").Store(&status); err != nil {
		t.Fatal(err)
	}
	return status.Value().(int32)
}

func TestToRunIsAPermissionOfItsOwn(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: running, Polkit: vouching, Options: system.Options{Stacks: runStacks()}}, func(t *testing.T, b *bench) {
		opener, other := b.join(t, system.Opener), b.join(t, system.Other)
		for _, c := range []struct {
			name    string
			who     *person
			service string
			o       options
		}{
			{"who may open may not run", opener, "permit", run("true")},
			{"nor a login shell", opener, "permit", options{}.and("login-shell", true)},
			{"nor by leaving authentication out", opener, "permit", run("true").and("authenticate", "unless-permitted")},
			{"who may run may not open", opener, "run-ask", options{}},
			{"whom polkit does not let", opener, "run-never", run("true").and("authenticate", "unless-permitted")},
			{"who has no rule", other, "run-ask", run("true")},
			{"who has no rule, with polkit", other, "run-polkit", run("true")},
		} {
			wantDenied(t, c.name, c.who.manager("OpenSession", c.service, "anna", c.o).Err)
		}
	})
}

// By a rule alone, the opener authenticates as the user, whatever it asks for.
func TestWhoRunsByARuleAuthenticates(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: running, Polkit: vouching, Options: system.Options{Stacks: runStacks()}}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		script := []string{"sh", "-c", fmt.Sprintf("test $(id -u) = %d && test $LD_PRELOAD = none && exit 5", system.Anna.UID)}
		for _, word := range []string{"always", "unless-permitted"} {
			session := opener.open("run-ask", "anna", run(script...).and("authenticate", word).and("agent", true).
				and("command-environment", []string{"LD_PRELOAD=none"}))
			number, details := opener.prompt(session)
			if got, _ := details["command"].Value().([]string); !slices.Equal(got, script) {
				t.Errorf("the command that is shown is %v", details["command"])
			}
			if err := opener.manager("AnswerPrompt", number, "right").Err; err != nil {
				t.Fatal(err)
			}
			if got := b.exit(t, session); got != 5 {
				t.Errorf("%s: it ended with status %d", word, got)
			}
		}
		wantCode(t, "phases without authentication", opener.manager("OpenSession", "run-ask", "anna",
			run("true").and("phases", []string{"account", "credentials", "session"})).Err, api.InvalidArgument)
		wantCode(t, "what modules would obey", opener.manager("OpenSession", "run-ask", "anna",
			run("true").and("environment", []string{"LD_PRELOAD=x"})).Err, api.InvalidArgument)
	})
}

// Whom polkit lets run commands need not, but only if that is asked for.
func TestWhomPolkitLetsRunNeedNotAuthenticate(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: running, Polkit: vouching, Options: system.Options{Stacks: runStacks()}}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		script := []string{"sh", "-c", fmt.Sprintf("test $(id -u) = %d && exit 5", system.Anna.UID)}
		if got := b.exit(t, opener.open("run-polkit", "anna", run(script...).and("authenticate", "unless-permitted"))); got != 5 {
			t.Errorf("it ended with status %d", got)
		}
		session := opener.open("run-polkit", "anna", run("true").and("agent", true))
		if number, _ := opener.prompt(session); number == 0 {
			t.Error("it was not asked")
		}
		if err := opener.call(session, api.SessionInterface+".Close").Err; err != nil {
			t.Error(err)
		}
		wantCode(t, "phases of its choice", opener.manager("OpenSession", "run-polkit", "anna",
			run("true").and("phases", []string{"session"})).Err, api.InvalidArgument)
		b.StopPolkit(t)
		wantDenied(t, "without polkit", opener.manager("OpenSession", "run-polkit", "anna", run("true").and("authenticate", "unless-permitted")).Err)
	})
}

// Signals are for who may end a session.
func TestOnlyWhoMayEndASessionSignalsIt(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: running, Polkit: vouching, Options: system.Options{Stacks: runStacks()}}, func(t *testing.T, b *bench) {
		opener, other := b.join(t, system.Opener), b.join(t, system.Other)
		roots := open(t, b.root, "permit", "anna", run("sleep", "1000"))
		mine := opener.open("run-polkit", "anna", run("sleep", "1000").and("authenticate", "unless-permitted"))
		b.wait(t, roots, api.StateOpen)
		b.wait(t, mine, api.StateOpen)
		kill := api.SessionInterface + ".Kill"
		if err := other.call(roots, api.SessionInterface+".Wait", api.StateOpen).Err; err != nil {
			t.Errorf("to see it: %v", err)
		}
		for what, err := range map[string]error{
			"root's, by an opener":    opener.call(roots, kill, "all", int32(15)).Err,
			"an opener's, by another": other.call(mine, kill, "all", int32(15)).Err,
			"anna's command, by anna": b.join(t, system.Anna).call(roots, kill, "all", int32(15)).Err,
			"one that there is not":   other.call(api.SessionPrefix+"1", kill, "all", int32(15)).Err,
		} {
			wantDenied(t, what, err)
		}
		if err := opener.call(mine, kill, "leader", int32(15)).Err; err != nil {
			t.Errorf("one's own: %v", err)
		}
		if got := b.exit(t, mine); got != 128+15 {
			t.Errorf("it ended with status %d", got)
		}
		if err := call(b.root, roots, kill, "leader", int32(9)).Err; err != nil {
			t.Errorf("root's own: %v", err)
		}
		if got := b.exit(t, roots); got != 128+9 {
			t.Errorf("it ended with status %d", got)
		}
	})
}

// Who is not root, and at a terminal, is asked there by polkit's own agent, which
// the client starts. Its helper runs PAM, which lets anybody in here.
func TestPolkitAsksOnTheTerminalOfTheClient(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: running, Options: system.Options{Stacks: runStacks()}})
	reachable(t, b)
	at := func(args ...string) (code int, shown string) {
		t.Helper()
		keys, tty := pty.Open(t)
		if err := os.Chown(tty.Name(), int(system.Opener.UID), -1); err != nil {
			t.Fatal(err)
		}
		cmd := b.Inside(t, system.Opener, "setsid", append([]string{"--ctty", "--wait", b.Programs.Client}, args...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = tty.Close()
		screen, _ := io.ReadAll(keys) // until nobody has the terminal any more
		_ = keys.Close()
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode(), string(screen)
	}
	run := []string{"run", "--service", "run-never", "--user", "anna", "--", "sh", "-c", "exit 5"}
	if code, shown := at(run...); code != 5 || !strings.Contains(shown, "org.pamprompt.run") || !strings.Contains(shown, "“run-never”") {
		t.Errorf("exit code %d\n%s", code, shown)
	}
	if code, shown := at(append([]string{"--no-ask-password"}, run...)...); code != 4 || strings.Contains(shown, "AUTHENTICATING") {
		t.Errorf("with --no-ask-password: exit code %d\n%s", code, shown)
	}
	if code, shown := at("open", "--no-ask", "nosuch", "anna"); code != 4 || strings.Contains(shown, "AUTHENTICATING") {
		t.Errorf("what no rule lets: exit code %d\n%s", code, shown)
	}
}

// reachable lets others than root run the programs.
func reachable(t *testing.T, b *bench) {
	t.Helper()
	for _, dir := range []string{b.Dir, b.Programs.Dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
}
