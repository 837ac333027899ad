// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	awayText = "the broker cannot be asked"
	// waits is how long the module waits for a broker that hangs, with room for a busy machine.
	waits = 18 * time.Second
)

// lines have the one line that brings in the module, the first of its file, by the names of
// askers. docs/pam-module.md has the same.
var lines = map[string]string{
	"a homed user's manager, whose stack insists on the home":          "account optional pam_pamprompt.so fallback",
	"a homed user's manager, with Debian's stack":                      "account optional pam_pamprompt.so fallback",
	"a unit with PAMName=":                                             "account optional pam_pamprompt.so fallback",
	"a job of cron":                                                    "account optional pam_pamprompt.so",
	"a job of atd":                                                     "account optional pam_pamprompt.so",
	"sshd, a key, a question of the account phase":                     "account optional pam_pamprompt.so",
	"sshd, a key, a question of the session phase":                     "session optional pam_pamprompt.so",
	"sshd, a password, and a second question that shows what is typed": "auth optional pam_pamprompt.so",
	"sshd, a password, and a second question that hides what is typed": "auth optional pam_pamprompt.so",
	"sshd, a password alone":                                           "auth optional pam_pamprompt.so",
}

// answersWrongly says whether the program answers the second question itself, with what is no answer.
func (a asker) answersWrongly() bool { return strings.Contains(a.name, "hides what is typed") }

// asked is a question that a program's module has put to the broker.
type asked struct{ prompt, question, request string }

var listedPrompt = regexp.MustCompile(`^a\(tossa\{sv\}\) 1 ([0-9]+) "[^"]*" "[a-z]+" "([^"]*)"`)

// awaitAsked waits until the broker has one prompt, in both its forms.
func (m *Machine) awaitAsked(t *testing.T, a asker) asked {
	t.Helper()
	listed := m.Await(t, "a prompt of "+a.name, "/bin/sh", "-c", call+"ListPrompts | grep '^a(tossa{sv}) 1 '")
	found := listedPrompt.FindStringSubmatch(listed)
	if found == nil {
		t.Fatalf("the prompt is %s", listed)
	}
	return asked{prompt: found[1], question: found[2], request: m.Await(t, "the request", "/bin/sh", "-c", request)}
}

// field is one of a request of systemd's protocol.
func (q asked) field(name string) string {
	for line := range strings.Lines(q.request) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// left is how long the request still waits; a day when it waits for ever.
func (q asked) left(t *testing.T) time.Duration {
	t.Helper()
	until, err := strconv.ParseInt(q.field("NotAfter"), 10, 64)
	if err != nil {
		t.Fatalf("NotAfter of the request: %v\n%s", err, q.request)
	}
	if until == 0 {
		return 24 * time.Hour
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return (time.Duration(until)*time.Microsecond - time.Duration(now.Nano())).Round(time.Second)
}

// user is whom the program asks for.
func (a asker) user() string {
	if a.file == "systemd-user" {
		return "anna"
	}
	return "bob"
}

func (a asker) answer() string {
	if a.file == "systemd-user" {
		return "correct-horse"
	}
	return code
}

// With the module what was refused is asked through the broker, whichever systemd it is.
func theModuleAsks(t *testing.T, m *Machine) {
	m.stage(t)
	defer m.unstage(t)
	page, err := os.ReadFile("../../docs/pam-module.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range askers {
		if a.answers || a.answersWrongly() {
			continue
		}
		if !regexp.MustCompile("(?m)^\\| .*(`" + a.file + "`|named).* \\| `" + lines[a.name] + "` ").Match(page) {
			t.Errorf("%s: docs/pam-module.md has another line than %q", a.name, lines[a.name])
		}
		m.Run(t, "systemctl", "stop", "pamprompt-broker.service") // the question starts it
		var q asked
		var left time.Duration
		o := a.try(t, m, lines[a.name]+"\n", func() {
			q = m.awaitAsked(t, a)
			left = q.left(t)
			m.Shell(t, call+"AnswerPrompt ts "+q.prompt+" "+a.answer())
		})
		if !o.works {
			t.Errorf("%s: with the module, and an answer over D-Bus: %v", a.name, o)
		}
		message := q.field("Message")
		for _, want := range []string{a.user(), a.file, strings.TrimSpace(q.question)} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: the request says %q, without %q", a.name, message, want)
			}
		}
		if left < 20*time.Second {
			t.Errorf("%s: the request waits for %v", a.name, left)
		}
		m.Await(t, "the end of the helper", "/bin/sh", "-c", "! pgrep pamprompt-conv")
		if a.file == "systemd-user" {
			m.awaitHome(t, "inactive")
		}
		saw(t, "f: with %q: %s: asked %q, %v left, answered over D-Bus: %v", lines[a.name], a.name, message, left, o)
	}
}

// What sshd answers by itself is not asked, whatever becomes of the answer; and with the
// option fallback everything is asked, the password too.
func theModuleAndThePasswordOfSSH(t *testing.T, m *Machine) {
	m.stage(t)
	defer m.unstage(t)
	for _, a := range askers {
		switch {
		case a.answers:
			if o := a.try(t, m, lines[a.name]+"\n", func() {}); !o.works {
				t.Errorf("%s: with the module: %v", a.name, o)
			}
		case a.answersWrongly():
			o := a.try(t, m, lines[a.name]+"\n", func() {})
			if o.works {
				t.Errorf("%s: with the module: %v", a.name, o)
			}
			var questions []string
			second := a.try(t, m, lines[a.name]+" fallback\n", func() {
				for _, answer := range []string{"hunter22", code} {
					q := m.awaitAsked(t, a)
					questions = append(questions, q.question)
					m.Shell(t, call+"AnswerPrompt ts "+q.prompt+" "+answer)
				}
			})
			if !second.works || len(questions) != 2 {
				t.Errorf("%s: with the option fallback, asked %q: %v", a.name, questions, second)
			}
			saw(t, "f: %s: with the module: %v; with fallback, asked %q: %v", a.name, o, questions, second)
		}
	}
}

// away is a way in which the broker cannot be asked.
type away struct{ name, begin, end string }

var aways = []away{
	{"masked", `systemctl mask --runtime --now pamprompt-broker.service pamprompt-broker.socket`,
		`systemctl unmask --runtime pamprompt-broker.service pamprompt-broker.socket`},
	{"hanging", `mkdir -p /run/systemd/system/pamprompt-broker.service.d
		printf '[Service]\nWatchdogSec=0\n' >/run/systemd/system/pamprompt-broker.service.d/test.conf
		systemctl daemon-reload; systemctl restart pamprompt-broker.service
		kill -STOP $(` + mainPID + `)`,
		`kill -CONT $(` + mainPID + `); rm -r /run/systemd/system/pamprompt-broker.service.d
		systemctl daemon-reload; systemctl restart pamprompt-broker.service`},
}

// Every program does what it did without the module.
func theBrokerIsAway(t *testing.T, m *Machine) {
	m.stage(t)
	defer m.unstage(t)
	for _, gone := range aways {
		m.Shell(t, gone.begin)
		for _, a := range askers {
			if a.twice {
				continue
			}
			cursor := m.cursor(t)
			o := a.try(t, m, lines[a.name]+"\n", func() {})
			want := withoutModule[a.name]
			if o.works != want.works || !sameReason(o.why, want.why) {
				t.Errorf("%s, the broker %s: %v, and without the module %v", a.name, gone.name, o, want)
			}
			if o.took > want.took+waits {
				t.Errorf("%s, the broker %s: it took %v, and %v without the module", a.name, gone.name, o.took, want.took)
			}
			said, _ := m.Try(t, "journalctl", "--output=cat", "--no-pager", "--after-cursor="+cursor, "--grep="+awayText)
			wantLines := 1
			if a.answers || a.answersWrongly() {
				wantLines = 0 // nobody asked the broker
			}
			if got := strings.Count(said, awayText); got != wantLines {
				t.Errorf("%s, the broker %s: the journal says %d times that it is away, not %d:\n%s", a.name, gone.name, got, wantLines, said)
			}
			saw(t, "f: the broker %s: %s: %v, %v without the module; the journal: %q", gone.name, a.name, o, want.took, said)
		}
		m.Shell(t, gone.end)
	}
}

var numbers = regexp.MustCompile(`[0-9]+`)

// sameReason compares what programs say without ports and process numbers.
func sameReason(a, b string) bool {
	return numbers.ReplaceAllString(a, "N") == numbers.ReplaceAllString(b, "N")
}

// theModulePage follows the example of docs/pam-module.md, for anna.
func theModulePage(t *testing.T, m *Machine) {
	commands := m.page(t, "pam-module.md").lines(t)
	m.Shell(t, commands[0])
	starting := m.Sit(t, "sh", "-c", commands[1])
	agent := m.Sit(t, "sh", "-c", commands[2])
	agent.await("assword: ")
	agent.enter("correct-horse")
	if screen, code := starting.end(); code != 0 {
		t.Errorf("%s: exit code %d\n%s", commands[1], code, screen)
	}
	m.awaitHome(t, "active")
	if screen := agent.leave(); strings.Contains(screen, "horse") {
		t.Errorf("what was typed is on the terminal: %q", screen)
	}
	m.Run(t, "systemctl", "stop", manager)
	m.awaitHome(t, "inactive")
	m.Run(t, "rm", "/etc/pam.d/systemd-user")
	saw(t, "docs/pam-module.md followed: a line in systemd-user, the home unlocked by typing at pamprompt-client agent, and locked again")
}
