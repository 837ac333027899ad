// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// systemd 252, dbus-daemon: none of this works there without us.
func TestDebian12(t *testing.T) { suite(t, "bookworm") }

// systemd 258 or later, dbus-broker.
func TestALaterSystemd(t *testing.T) { suite(t, "forky", "dbus-broker") }

// alone is held while a machine runs: another would take its time. Only the root file
// systems are made side by side.
var alone sync.Mutex

// suite is what is shown on every system, in this order.
func suite(t *testing.T, name string, more ...string) {
	t.Parallel()
	base := Root(t, name, more...)
	alone.Lock()
	t.Cleanup(alone.Unlock)
	m := New(t, base)
	first, second := Deb(t, "0.0.1"), Deb(t, "0.0.2")
	m.Boot(t)
	saw(t, "%s", m.Shell(t, "systemctl --version | head -n 1; systemctl show --property=Id --value dbus.service"))
	m.Copy(t, first, "/root/first.deb")
	m.Copy(t, second, "/root/second.deb")
	m.Run(t, "dpkg", "--install", "/root/first.deb")
	m.account(t, "bob", "hunter22")
	m.account(t, "carol", "hunter33")
	m.Write(t, "/etc/pam.d/desk", desk)

	for _, step := range []struct {
		name string
		run  func(*testing.T, *Machine)
	}{
		{"a call starts the service", aCallStartsTheService},
		{"a session opens", aSessionOpens},
		{"the doctor finds nothing, and what is wrong", theDoctor},
		{"the broker has no rights and no exposure", theBrokerHasNoRights},
		{"the directories are made", theDirectoriesAreMade},
		{"a reload reads the rules again", aReloadReadsTheRules},
		{"the unit of another user's process is known", theUnitOfACallerIsKnown},
		{"d: who sits there answers", whoSitsThereAnswers},
		{"a group answers", aGroupAnswers},
		{"the unit takes nothing from modules", theUnitTakesNothingFromModules},
		{"the broker's end loses nothing", theBrokersEndLosesNothing},
		{"another target keeps sessions", anotherTargetKeepsSessions},
		{"logind is away", logindIsAway},
		{"a homed user", aHomedUser},
		{"a: nobody unlocks the home", nobodyUnlocksTheHome},
		{"a: systemd's agent unlocks the home", systemdsAgentUnlocksTheHome},
		{"a: busctl unlocks the home", busctlUnlocksTheHome},
		{"a: a person unlocks the home", aPersonUnlocksTheHome},
		{"docs: unlock a homed user at boot", theUnlockPage},
		{"b: a command runs in the home", aCommandRunsInTheHome},
		{"b: a command in a pipeline", aCommandInAPipeline},
		{"b: polkit lets run", polkitLetsRun},
		{"b: a rule lets run", aRuleLetsRun},
		{"docs: run a command as another user", theRunPage},
		{"docs: prompts for my own daemon", aDaemonOfOnesOwn},
		{"c: a second factor", aSecondFactor},
		{"f: programs have nobody to ask", programsHaveNobodyToAsk},
		{"f: the module asks", theModuleAsks},
		{"f: the module and the passwords of sshd", theModuleAndThePasswordOfSSH},
		{"f: the broker is away", theBrokerIsAway},
		{"docs: prompts of programs that stay as they are", theModulePage},
		{"the home is unlocked at boot", theHomeIsUnlockedAtBoot},
		{"e: a reboot closes sessions", aRebootClosesSessions},
		{"nobody answers at boot", nobodyAnswersAtBoot},
		{"the bus is restarted", theBusIsRestarted}, // which systemd's logind does not survive
		{"removal leaves nothing", removalLeavesNothing},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, m) }) {
			t.Log(m.Run(t, "journalctl", "--boot", "--lines=60", "--no-pager"))
			return // the next steps stand on this one
		}
	}
}

// saw has a line printed for people to read when the test passes, too.
func saw(t *testing.T, format string, args ...any) {
	t.Attr("saw", strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
}
