// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// shell is one that people type to.
type shell struct {
	name string
	cmd  *exec.Cmd
	load string // what has it complete for us
	keys string // what it writes when it takes keys one by one: a Tab that comes before is none to it
}

func shells() []shell {
	return []shell{
		{"bash", exec.Command("bash", "--norc", "--noprofile", "-i"),
			"bind 'set show-all-if-ambiguous on'; . /usr/share/bash-completion/bash_completion; . <(pamprompt-client completion bash)", pasting},
		{"zsh", exec.Command("zsh", "-f", "-i"),
			"setopt nolistambiguous; autoload -U compinit; compinit -u -D; . <(pamprompt-client completion zsh); compdef _pamprompt-client pamprompt-client", pasting},
		{"fish", exec.Command("fish", "--no-config", "-i"), "pamprompt-client completion fish | source", "\x1b[K\r\x1b["},
	}
}

// start has it run at a terminal, ready to complete.
func (sh shell) start(t *testing.T, s *system.System) *person {
	t.Helper()
	p := arrive(t, s, sh.cmd)
	p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
	p.cmd.Env = append(p.cmd.Env, "TERM=xterm", "LANG=C.UTF-8", "HOME="+t.TempDir(), "PS1=> ", "LINES=24", "COLUMNS=100")
	p.sit(sh.cmd.Args)
	p.press(sh.load + "; echo rea''dy\r")
	p.see("ready")
	p.see(sh.keys)
	return p
}

// pasting is what turns bracketed paste on.
const pasting = "\x1b[?2004h"

// What three shells offer, at the Tab key of a person at a terminal.
func TestShellsComplete(t *testing.T) {
	s := system.Start(t, options(t))
	session := begin(t, s, "permit", "anna", api.Options{Linger: true})
	asking := begin(t, s, "colours", "anna", api.Options{Linger: true})
	w, err := s.Client(t).Watch(bounded(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	prompt := pending(t, w, "anna")
	if err := s.Client(t).Session(session.ID()).Wait(bounded(t), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	open, other := strconv.FormatUint(session.ID(), 10), strconv.FormatUint(asking.ID(), 10)
	for _, shell := range shells() {
		t.Run(shell.name, func(t *testing.T) {
			p := shell.start(t, s)
			for i, try := range []struct {
				typed   string
				offered []string
			}{
				{"pamprompt-client answer ", []string{prompt}},
				{"pamprompt-client show " + open[:len(open)-2], []string{open, other}},
				{"pamprompt-client open --ask-password fal", []string{"fallback"}},
				{"pamprompt-client open permit daem", []string{"daemon"}},
				{"pamprompt-client list --json=p", []string{"pretty"}},
				{"pamprompt-client prom", []string{"prompts"}},
			} {
				p.press(try.typed + "\t")
				for _, word := range try.offered {
					p.see(word[len(word)-2:]) // some shells write what is new alone
				}
				p.press("\x15echo ne''xt" + strconv.Itoa(i) + "\r")
				p.see("next" + strconv.Itoa(i))
				p.see(shell.keys)
			}
			p.press("exit\r")
			_ = p.cmd.Wait()
		})
	}
}

// The completion of fscrypt's command line ran what a mount point was called
// (CVE-2022-25328). Here whoever opens a session chooses the user's name, and the shells'
// scripts evaluate what has been typed, and completed, up to now.
func TestNamesAreNoCommandsToAShell(t *testing.T) {
	s := system.Start(t, options(t))
	dir := t.TempDir() // where the shells are: a name has no slash
	for _, name := range []string{"$(touch trace)", "`touch trace`", ";touch trace;", "'$(touch trace)'", `"$(touch trace)"`, "(touch trace)", "|touch trace"} {
		begin(t, s, "password", name, api.Options{Linger: true})
	}
	for _, shell := range shells() {
		t.Run(shell.name, func(t *testing.T) {
			shell.cmd.Dir = dir
			p := shell.start(t, s)
			for i, command := range []string{"show", "close", "answer", "cancel"} {
				p.press("pamprompt-client " + command + " \t\t\t")
				p.press("\x15pamprompt-client " + command + " 1 \t\t")
				p.press("\x15echo ne''xt" + strconv.Itoa(i) + "\r")
				p.see("next" + strconv.Itoa(i))
				p.see(shell.keys)
			}
			p.press("exit\r")
			_ = p.cmd.Wait()
			if !strings.Contains(p.screen.Shown(), "touch") {
				t.Error("the names were not shown: this has tried nothing")
			}
			if _, err := os.Stat(filepath.Join(dir, "trace")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a name was run as a command: %v", err)
			}
		})
	}
}

// What is offered comes from others: nothing in it moves a terminal.
func TestWhatIsOfferedIsClean(t *testing.T) {
	s := system.Start(t, options(t))
	begin(t, s, "colours", "bea", api.Options{Linger: true})
	w, err := s.Client(t).Watch(bounded(t), api.WatchOptions{Agent: true})
	if err != nil {
		t.Fatal(err)
	}
	prompt := pending(t, w, "bea")
	cmd := exec.Command("pamprompt-client", "__complete", "answer", "")
	cmd.Env = s.Environment()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := prompt + "\tbea: ?31mP??]0;title?IN:\n:36\n"; string(out) != want {
		t.Errorf("it is %q, want %q", out, want)
	}
}

// Without a broker there is nothing to offer, and nothing is said.
func TestNothingIsOfferedWithoutABroker(t *testing.T) {
	s := system.StartOnBus(t, system.Options{})
	s.Kill(t)
	cmd := exec.Command("pamprompt-client", "__complete", "show", "")
	cmd.Env = s.Environment()
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != ":36" {
		t.Errorf("%v, %q", err, out)
	}
	s.Restart(t)
}

func TestOnlyNamesThatAShellTakesAreOffered(t *testing.T) {
	for name, want := range map[string]bool{"anna": true, "a.b-c_9": true, "": false, "-x": false, "a b": false, "$(x)": false, "jörg": false, "a;b": false, "a\nb": false} {
		if typable(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
