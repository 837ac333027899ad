// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

const (
	ctrlZ = "\x1a"
	leave = "\x1d\x1d\x1d"
)

// onTerminal runs something with standard input, output and error on a terminal.
func onTerminal(t *testing.T, s *system.System, args ...string) *person {
	t.Helper()
	p := arrive(t, s, exec.Command("pamprompt-client", append([]string{"run"}, args...)...))
	p.cmd.Stdout, p.cmd.Stderr = p.tty, p.tty
	p.sit(args)
	return p
}

// withPipes runs something with a terminal for input alone.
func withPipes(t *testing.T, s *system.System, args ...string) *person {
	t.Helper()
	return at(t, s, append([]string{"run"}, args...)...)
}

// says waits for a line of standard output.
func (p *person) says(want string) {
	p.t.Helper()
	if line, err := p.stdout.ReadString('\n'); line != want+"\n" {
		p.t.Fatalf("standard output says %q (%v), not %q", line, err, want)
	}
}

// session is that of run.
func (p *person) session(s *system.System) *api.Session {
	p.t.Helper()
	c := s.Client(p.t)
	sessions, err := c.Sessions(bounded(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, one := range sessions {
		properties, err := c.Session(one.ID).Properties(bounded(p.t))
		if err == nil && int(properties.OwnerPID) == p.cmd.Process.Pid {
			return c.Session(one.ID)
		}
	}
	p.t.Fatal("it has no session")
	return nil
}

// opened waits until the session is open, and so until signals are the command's.
func (p *person) opened(s *system.System) {
	p.t.Helper()
	wantOpen(p.t, p.session(s))
}

func (p *person) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// stops waits until run has stopped.
func (p *person) stops() {
	p.t.Helper()
	defer p.within()()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		p.t.Fatal(err)
	}
	if info.Code != 5 { // CLD_STOPPED
		p.t.Fatalf("it has not stopped: %+v", info)
	}
}

// resize changes the size of the terminal.
func (p *person) resize(lines, columns uint16) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}); err != nil {
		p.t.Fatal(err)
	}
}

// isRaw says whether keys of the terminal are signals and lines, or keys.
func (p *person) isRaw() bool {
	p.t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return mode.Lflag&(unix.ISIG|unix.ICANON|unix.ECHO) == 0
}

// ready is said by a command that waits then, for what its traps say.
const ready = "sleep 1000 >/dev/null 2>&1 & echo rea''dy; while :; do wait; done"

func traps(list ...string) string { return strings.Join(append(list, ready), "; ") }

// hangup tells of SIGHUP, which may come twice: of the terminal, and of the session.
func hangup(fifo string) string { return `trap 'trap "" HUP; echo hangup >` + fifo + `; exit' HUP` }

// pipe is a FIFO that anybody may write to, and that a command finds from anywhere.
func pipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o622); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantLine reads what is written to a FIFO. That it ends says that nobody has it open.
func wantLine(t *testing.T, fifo, want string) {
	t.Helper()
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := io.ReadAll(f)
	if string(got) != want+"\n" || err != nil {
		t.Errorf("it has written %q (%v), not %q", got, err, want)
	}
}

func TestPromptsOfRun(t *testing.T) {
	s := system.Start(t, options(t))
	t.Run("on the terminal that the command gets next", func(t *testing.T) {
		p := onTerminal(t, s, "--service", "unlock", "-u", "nobody", "sh", "-c", "read -r line; echo got $line; exit 3")
		p.see("locked\r\n")
		p.see("Passphrase: ")
		p.press("secret" + enter)
		p.see("\r\n")
		p.press("words" + enter)
		p.see("got words")
		p.see("locked-again")
		p.exits(3)
		p.never("secret")
	})
	t.Run("what was typed ahead is the command's", func(t *testing.T) {
		o, fifo := options(t), pipe(t)
		o.Stacks["slow"] = strings.Replace(o.Stacks["unlock"], "close:", "[open:run=read -r line <"+fifo+"] close:", 1)
		s := system.Start(t, o)
		p := onTerminal(t, s, "--service", "slow", "-u", "nobody", "sh", "-c", "read -r a; read -r b; echo got $a $b")
		p.see("Passphrase: ")
		p.press("secret" + enter + "typed" + enter + "ahead" + enter)
		p.see("\r\n")
		if err := os.WriteFile(fifo, []byte("\n"), 0); err != nil { // the module goes on
			t.Fatal(err)
		}
		p.see("got typed ahead")
		p.exits(exitOK)
	})
	for _, test := range []struct {
		name string
		do   func(*person)
		want int
	}{
		{"Ctrl-C at the prompt", func(p *person) { p.press("abc" + ctrlC) }, exitCancelled},
		{"Ctrl-D at the prompt", func(p *person) { p.press(ctrlD) }, exitCancelled},
		{"SIGTERM at the prompt", func(p *person) { p.signal(unix.SIGTERM) }, exitCancelled},
		{"SIGUSR1 at the prompt", func(p *person) { p.signal(unix.SIGUSR1) }, exitCancelled},
		{"SIGHUP at the prompt", func(p *person) { p.signal(unix.SIGHUP) }, exitCancelled},
		{"a wrong answer", func(p *person) { p.press("wrong" + enter) }, exitSession},
	} {
		for mode, run := range map[string]func(*testing.T, *system.System, ...string) *person{"a terminal": onTerminal, "pipes": withPipes} {
			t.Run(test.name+", with "+mode, func(t *testing.T) {
				p := run(t, s, "--service", "unlock", "-u", "nobody", "true")
				p.see("Passphrase: ")
				test.do(p)
				p.exits(test.want)
				p.never("abc")
				p.never("is gone")
			})
		}
	}
	t.Run("pipes stay clean", func(t *testing.T) {
		p := withPipes(t, s, "--service", "unlock", "-u", "nobody", "sh", "-c", "echo out; echo err >&2; read -r line; echo $line")
		p.see("Passphrase: ")
		p.press("secret" + enter)
		p.says("out")
		p.press("words" + enter) // standard input is the terminal, which is a usual one again
		p.see("words")
		p.says("words")
		p.see("locked-again")
		p.exits(exitOK)
		if got := p.stderr.String(); got != "err\n" {
			t.Errorf("standard error is %q", got)
		}
	})
}

// allowing lets nobody run commands as nobody, who authenticates for it.
const allowing = `
[[rule]]
action = "run"
service = "password"
caller = "uid:65534"
verdict = "allow"

[[rule]]
action = "run"
service = "stubborn"
caller = "uid:65534"
verdict = "allow"
`

func TestRunOfSomebodyElse(t *testing.T) {
	o := options(t)
	rules := t.TempDir()
	if err := os.WriteFile(filepath.Join(rules, "test.toml"), []byte(allowing), 0o644); err != nil {
		t.Fatal(err)
	}
	o.BrokerArgs = []string{"--policy", rules}
	s := system.StartOnBus(t, o)
	for _, dir := range []string{s.Dir, s.Programs.Dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	as := func(args ...string) *person {
		p := arrive(t, s.System, exec.Command(s.Programs.Client, append([]string{"run", "-u", "nobody"}, args...)...))
		if err := p.tty.Chown(nobody, nobody); err != nil {
			t.Fatal(err)
		}
		p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = "/", p.tty, p.tty
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		p.sit(args)
		return p
	}
	t.Run("a wrong password, and the right one", func(t *testing.T) {
		p := as("--service", "password", "sh", "-c", "echo $SUDO_USER; id -u; test -O $(tty) && exit 3")
		p.see("Password: ")
		p.press("wrong" + enter)
		p.see("Authentication failure")
		p.see("Password: ")
		p.press("secret" + enter)
		p.see("almost there")
		p.see("nobody\r\n65534\r\n")
		p.exits(3)
		p.never("wrong")
		p.never("secret")
	})
	for name, key := range map[string]string{"Ctrl-C": ctrlC, "Ctrl-D": ctrlD} {
		t.Run(name+" ends it, though the module goes on without an answer", func(t *testing.T) {
			p := as("--service", "stubborn", "true")
			p.see("Password: ")
			p.press(key)
			p.exits(exitCancelled)
		})
	}
	t.Run("a rule that there is not", func(t *testing.T) {
		p := as("true")
		p.see("AccessDenied")
		p.exits(exitDenied)
	})
}

func TestEnvironmentOfTheCommand(t *testing.T) {
	t.Setenv("TERM", "dumb")
	t.Setenv("NO_COLOR", "")
	t.Setenv("LANG", "C")
	if err := os.Unsetenv("COLORTERM"); err != nil {
		t.Fatal(err)
	}
	caller := []string{"SUDO_USER=" + current(t), "SUDO_UID=" + strconv.Itoa(os.Getuid()), "SUDO_GID=" + strconv.Itoa(os.Getgid())}
	for _, test := range []struct {
		name string
		w    wanted
		want string
	}{
		{"with pipes", wanted{pipe: true}, strings.Join(caller, " ")},
		{"on a terminal", wanted{pty: true}, "TERM=dumb NO_COLOR= " + strings.Join(caller, " ")},
		{"what is wanted counts", wanted{pty: true, setenv: []string{"TERM=other", "LANG"}}, "NO_COLOR= " + strings.Join(caller, " ") + " TERM=other LANG=C"},
	} {
		got, err := test.w.environment()
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
}

func current(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}
