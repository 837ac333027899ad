// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page is a document whose examples are followed in a machine.
type page struct {
	m      *Machine
	blocks []string // in their order, each with its kind in the first line
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

func (m *Machine) page(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{m: m}
	for _, found := range fenced.FindAllStringSubmatch(string(text), -1) {
		p.blocks = append(p.blocks, found[1]+"\n"+found[2])
	}
	return p
}

// next is the next block of a kind. What is between is left out.
func (p *page) next(t *testing.T, kind string) string {
	t.Helper()
	for len(p.blocks) > 0 {
		block := p.blocks[0]
		p.blocks = p.blocks[1:]
		if text, ok := strings.CutPrefix(block, kind+"\n"); ok {
			return text
		}
	}
	t.Fatalf("the page has no further block of %s", kind)
	return ""
}

// file writes the next file of the page, whose name is a comment in its first line.
func (p *page) file(t *testing.T, kind string) {
	t.Helper()
	text := p.next(t, kind)
	path, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
	if !strings.HasPrefix(path, "/etc/") {
		t.Fatalf("a block of %s does not begin with the name of a file: %q", kind, text)
	}
	p.m.Write(t, path, text)
}

// lines are the commands of the next block.
func (p *page) lines(t *testing.T) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(p.next(t, "sh"), "\n"), "\n")
}

// aDaemonOfOnesOwn follows docs/own-daemon.md.
func aDaemonOfOnesOwn(t *testing.T, m *Machine) {
	m.account(t, "vault", "hunter44")
	p := m.page(t, "own-daemon.md")
	p.file(t, "pam")

	p.file(t, "ini")
	commands := p.lines(t)
	for _, command := range commands[:2] {
		m.Shell(t, command)
	}
	terminal := m.Sit(t, "sh", "-c", commands[2])
	shown := strings.Split(strings.TrimSpace(p.next(t, "text")), "\n")
	for _, line := range shown[1:] { // the first has numbers in it
		terminal.await(strings.TrimSpace(line))
	}
	terminal.enter("hunter44")
	m.Await(t, "what the daemon says", "/bin/sh", "-c", "journalctl --boot --output=cat --identifier=mailvault | grep -x 'open as vault'")
	terminal.leave()
	m.Run(t, "systemctl", "is-active", "mailvault")
	m.Run(t, "systemctl", "disable", "--now", "mailvault")
	if list := m.Shell(t, call+"ListSessions"); strings.Contains(list, "mailvault") {
		t.Errorf("when the unit is stopped there is %s", list)
	}
	if state, _ := m.Try(t, "systemctl", "is-failed", "mailvault"); state != "inactive" {
		t.Errorf("when the unit is stopped it is %s", state)
	}

	p.file(t, "ini")
	p.file(t, "ini")
	commands = p.lines(t)
	for _, command := range commands[:2] {
		m.Shell(t, command)
	}
	terminal = m.Sit(t, "sh", "-c", commands[2])
	terminal.await("assword: ")
	if state, _ := m.Try(t, "systemctl", "is-active", "vault-index"); state != "inactive" {
		t.Errorf("before the answer the unit beside the session is %s", state)
	}
	terminal.enter("hunter44")
	m.Await(t, "the unit beside the session", "systemctl", "is-active", "vault-index")
	terminal.leave()
	m.Run(t, "systemctl", "stop", "vault-session")
	if state, _ := m.Try(t, "systemctl", "is-active", "vault-index"); state != "inactive" {
		t.Errorf("when the session has ended the unit beside it is %s", state)
	}

	p.file(t, "toml")
	commands = p.lines(t)
	m.Shell(t, commands[0])
	if said, want := m.Shell(t, commands[1]), strings.TrimSpace(p.next(t, "text")); said != want {
		t.Errorf("%s says %q", commands[1], said)
	}
	m.Shell(t, "usermod --append --groups mail carol")
	terminal = m.Sit(t, "su", "-", "carol")
	terminal.await("$")
	terminal.enter("pamprompt-client run --service mailvault --user vault id -un")
	terminal.await("assword: ")
	terminal.enter("hunter44")
	terminal.await("vault\r\n") // the wall message names vault too, within a line
	terminal.await("$")
	terminal.enter("exit")
	terminal.end()
	m.Shell(t, "gpasswd --delete carol mail; userdel --remove vault 2>/dev/null; rm /etc/pam.d/mailvault /etc/pamprompt/policy.d/60-mailvault.toml "+
		"/etc/systemd/system/mailvault.service /etc/systemd/system/vault-*.service; systemctl daemon-reload; systemctl reload pamprompt-broker")
	saw(t, "docs/own-daemon.md followed: a daemon inside a session, a unit beside one, and one that is not root, each with typed answers")
}

// theRunPage follows the examples of docs/run.md, as somebody who is no homed user.
func theRunPage(t *testing.T, m *Machine) {
	m.Shell(t, "mkdir -p /root/notes; echo words >/root/notes/one; install -d -o bob /home/bob/backup")
	for _, line := range m.page(t, "run.md").lines(t) {
		command, comment, _ := strings.Cut(strings.ReplaceAll(line, "anna", "bob"), " #")
		terminal := m.Sit(t, "sh", "-c", "cd; "+command)
		if strings.Contains(comment, "login shell") {
			terminal.await("$ ")
			terminal.enter("exit 0")
		}
		if screen, code := terminal.end(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", command, code, screen)
		}
	}
	if said := m.Shell(t, "stat --format=%U /home/bob/backup/notes/one; cat /home/bob/backup/notes/one"); said != "bob\nwords" {
		t.Errorf("what was put into the home is %q", said)
	}
	m.Shell(t, "rm -r /root/notes /home/bob/backup")
}

// theUnlockPage follows docs/unlock-at-boot.md, for anna, who is there already.
func theUnlockPage(t *testing.T, m *Machine) {
	p := m.page(t, "unlock-at-boot.md")
	commands := p.lines(t)
	m.Shell(t, "mkdir /etc/systemd/system/"+linger+".d")
	m.Write(t, "/etc/systemd/system/"+linger+".d/override.conf", p.next(t, "ini"))
	m.Run(t, "systemctl", "daemon-reload")

	enabling := m.Sit(t, "sh", "-c", commands[1])
	asked := m.question(t)
	answering := m.Sit(t, "sh", "-c", commands[2])
	answering.await("assword")
	answering.enter("correct-horse")
	for _, terminal := range []*Terminal{answering, enabling} {
		if screen, code := terminal.end(); code != 0 || strings.Contains(screen, "horse") {
			t.Errorf("exit code %d, the terminal shows\n%s", code, screen)
		}
	}
	m.awaitServices(t)
	m.Shell(t, commands[3])
	m.stopLinger(t)
	m.Shell(t, "rm -r /etc/systemd/system/"+linger+".d; systemctl daemon-reload")
	saw(t, "docs/unlock-at-boot.md followed, with more attempts and time: asked %q on a terminal by systemd-tty-ask-password-agent", asked)
}
