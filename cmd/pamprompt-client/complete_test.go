// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

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
	for _, shell := range []struct {
		name string
		cmd  *exec.Cmd
		load string // what has it complete for us
	}{
		{"bash", exec.Command("bash", "--norc", "--noprofile", "-i"),
			"bind 'set show-all-if-ambiguous on'; . /usr/share/bash-completion/bash_completion; . <(pamprompt-client completion bash)"},
		{"zsh", exec.Command("zsh", "-f", "-i"),
			"setopt nolistambiguous; autoload -U compinit; compinit -u -D; . <(pamprompt-client completion zsh); compdef _pamprompt-client pamprompt-client"},
		{"fish", exec.Command("fish", "--no-config", "-i"), "pamprompt-client completion fish | source"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			p := arrive(t, s, shell.cmd)
			p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
			p.cmd.Env = append(p.cmd.Env, "TERM=xterm", "LANG=C.UTF-8", "HOME="+t.TempDir(), "PS1=> ", "LINES=24", "COLUMNS=100")
			p.sit(shell.cmd.Args)
			p.press(shell.load + "; echo rea''dy\r")
			p.see("ready")
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
			}
			p.press("exit\r")
			_ = p.cmd.Wait()
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
