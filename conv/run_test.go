// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
	"github.com/pamprompt/pamprompt/tests/pty"
)

func TestALoginShell(t *testing.T) {
	for _, test := range []struct{ name, shell, dash string }{
		{"of the user", "/bin/dash", "-dash"},
		{"where none is named", "", "-sh"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:"+test.shell+"\n")
			// What modules say of SHELL is not the shell of the account.
			dir := stack(t, "session required {probe} open:putenv=SHELL=/bin/false")
			s := command(t, dir, "anna", &worker.Command{LoginShell: true})
			s.opened()
			_, _ = s.in.WriteString("echo $0; id -u; exit 3\n")
			if got := s.line() + " " + s.line(); got != test.dash+" 60001" {
				t.Errorf("it is %q", got)
			}
			s.ends("exited 3", "closed 0 the command ended with status 3")
		})
	}
	t.Run("that is not there", func(t *testing.T) {
		e := newEtc(t)
		e.write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/nosuch\n")
		s := command(t, stack(t), "anna", &worker.Command{LoginShell: true})
		s.ends("failed CommandFailed 0 run /nosuch: no such file or directory")
	})
}

func TestTheEnvironmentOfACommand(t *testing.T) {
	newEtc(t)
	bin := t.TempDir()
	copyFile(t, "/bin/echo", filepath.Join(bin, "only-here"))
	dir := stack(t, "session required {probe} open:putenv=LANG=C.UTF-8 open:putenv=KEPT=yes")
	c := shell("only-here; env | sort")
	c.Environment = []string{"LANG=de", "NEW=1", "NEW=2", "HOME=/srv", "PATH=" + bin + ":/usr/bin:/bin"}
	s := command(t, dir, "anna", c)
	s.opened()
	got := map[string]string{}
	for line := range strings.Lines(s.output()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		got[name] = value
	}
	wantFacts(t, got, map[string]string{"LANG": "de", "NEW": "2", "KEPT": "yes", "HOME": "/srv", "USER": "anna"})
	s.ends("exited 0", "closed 0 the command ended with status 0")
	t.Run("says where its program is", func(t *testing.T) {
		newEtc(t)
		s := command(t, stack(t), "anna", &worker.Command{Arguments: []string{"only-here", "found"}, Environment: []string{"PATH=" + bin}})
		s.opened()
		if got := s.output(); got != "found\n" {
			t.Errorf("it said %q", got)
		}
		s.ends("exited 0", "closed 0 the command ended with status 0")
	})
}

func TestADirectoryBelowTheHome(t *testing.T) {
	home := t.TempDir()
	for _, path := range []string{filepath.Dir(home), home} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(home, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := newEtc(t)
	e.write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::"+home+":/bin/sh\n")
	for directory, want := range map[string]string{"": home, "~": home, "~/": home, "~/src": home + "/src", "/usr": "/usr"} {
		c := shell("pwd")
		c.Directory = directory
		s := command(t, stack(t), "anna", c)
		s.opened()
		if got := s.line(); got != want {
			t.Errorf("%q is %s", directory, got)
		}
		s.ends("exited 0", "closed 0 the command ended with status 0")
	}
	c := shell("pwd")
	c.Directory = "~/nosuch"
	command(t, stack(t), "anna", c).ends("failed CommandFailed 0 enter " + home + "/nosuch: no such file or directory")
}

// Each of the three processes says what it gets, and ends then.
const heedSignals = `trap 'echo leader; exit 1' USR1
sh -c 'trap "echo member; exit" USR1; echo ready; while :; do read -r line || exit; done' <&3 &
setsid sh -c 'trap "echo other; exit" USR1; echo ready; while :; do read -r line || exit; done' <&3 &
while :; do read -r line <&3 || exit; done`

func TestSignalsToTheProcessesOfASession(t *testing.T) {
	for _, test := range []struct {
		name   string
		target worker.Target
		want   []string
	}{
		{"the leader", worker.Target_TARGET_LEADER, []string{"leader"}},
		{"its group", worker.Target_TARGET_GROUP, []string{"leader", "member"}},
		{"all", worker.Target_TARGET_ALL, []string{"leader", "member", "other"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t)
			s := command(t, stack(t), "anna", shell("exec 3<&0; "+heedSignals))
			s.opened()
			_, _ = s.line(), s.line()
			s.peer.Signal(test.target, unix.SIGUSR1)
			var said []string
			for range test.want {
				said = append(said, s.line())
			}
			_ = s.in.Close()
			if rest := s.output(); rest != "" {
				t.Errorf("then it said %q", rest)
			}
			if slices.Sort(said); !slices.Equal(said, test.want) {
				t.Errorf("%q have got it", said)
			}
			s.ends("exited 1", "closed 0 the command ended with status 1")
		})
	}
	t.Run("of a command that has ended reach nobody", func(t *testing.T) {
		newEtc(t)
		s := command(t, stack(t), "anna", shell("exec 3<&0; (trap 'echo got it' USR1; echo; while read -r line <&3; do echo $line; done) & exit 4"))
		s.opened()
		for firstOf(s.peer, "exited").GetExited() == nil {
		}
		s.line()
		for _, target := range []worker.Target{worker.Target_TARGET_LEADER, worker.Target_TARGET_GROUP} {
			s.peer.Signal(target, unix.SIGUSR1)
		}
		s.peer.Signal(99, unix.SIGKILL) // of a later version
		s.peer.Number(0, 1)             // is taken after them
		_, _ = s.in.WriteString("still here\n")
		if got := s.line(); got != "still here" {
			t.Errorf("it said %q", got)
		}
		_ = s.in.Close()
		s.ends("closed 0 the command ended with status 4")
	})
	t.Run("that come before the command reach it", func(t *testing.T) {
		s := command(t, stack(t, "auth required {probe} auth:ask=secret,x"), "root", shell("exec sleep 1000"))
		firstOf(s.peer, "prompt")
		s.peer.Signal(worker.Target_TARGET_LEADER, unix.SIGTERM)
		s.peer.Answer(0, "x")
		s.ends("taken 0", "exited 0 15", "closed 0 the command was killed by SIGTERM")
	})
	t.Run("of a session without a command are an error", func(t *testing.T) {
		_, process, peer := run(t, stack(t))
		peer.Start(convtest.Start("test", "root"))
		firstOf(peer, "opened")
		peer.Signal(worker.Target_TARGET_ALL, unix.SIGKILL)
		if m, err := peer.Receive(); err == nil {
			t.Errorf("the worker said %s", convtest.Describe(m))
		}
		_ = unix.Kill(process.Pid, unix.SIGKILL)
	})
}

// openPTY opens a pseudo-terminal that is there until the end of the test.
func openPTY(t testing.TB) (keys, tty *os.File) {
	t.Helper()
	keys, tty = pty.Open(t)
	t.Cleanup(func() { _, _ = keys.Close(), tty.Close() })
	return keys, tty
}

// owner is whose a terminal is.
func owner(t testing.TB, tty *os.File) uint32 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(tty.Name(), &s); err != nil {
		t.Fatal(err)
	}
	return s.Uid
}

// onTerminal has a command of anna's run on a terminal. It ends with its line.
func onTerminal(t testing.TB, dir string, tty *os.File, script string, changes ...func(*worker.Start)) (*convtest.Process, *convtest.Peer) {
	t.Helper()
	_, process, peer := run(t, dir)
	c := shell(script)
	c.Stdio, c.Terminal = true, true
	changes = append([]func(*worker.Start){func(s *worker.Start) { s.Command = c }}, changes...)
	peer.Start(convtest.Start("test", "anna", changes...), tty, tty, tty)
	return process, peer
}

// openedBy has somebody else than root open the session.
func openedBy(uid uint32) func(*worker.Start) {
	return func(s *worker.Start) { s.Owner.Uid = uid }
}

func TestTheTerminalIsTheUsersWhileTheCommandHasIt(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, opener uint32
		during        uint32
	}{
		{"when it was root's, who opened the session", 0, 0, annaUID},
		{"when it was the opener's", 60003, 60003, annaUID},
		{"but not when it is somebody else's", 60004, 60003, 60004},
		{"nor root's, when somebody else opened the session", 0, 60003, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/bin/sh\nopener:x:60003:60000::/:/bin/sh\n")
			keys, tty := openPTY(t)
			if err := os.Chown(tty.Name(), int(test.first), -1); err != nil {
				t.Fatal(err)
			}
			process, peer := onTerminal(t, stack(t), tty, "read -r line", openedBy(test.opener))
			firstOf(peer, "opened")
			if got := owner(t, tty); got != test.during {
				t.Errorf("meanwhile it is uid %d's", got)
			}
			_, _ = keys.WriteString("\n")
			firstOf(peer, "closed")
			process.Wait()
			if got := owner(t, tty); got != test.first {
				t.Errorf("then it is uid %d's", got)
			}
		})
	}
	t.Run("and goes back when no command comes of it", func(t *testing.T) {
		newEtc(t)
		_, tty := openPTY(t)
		process, peer := onTerminal(t, stack(t), tty, "", func(s *worker.Start) { s.Command.Arguments = []string{"/nosuch"} })
		firstOf(peer, "failed")
		process.Wait()
		if got := owner(t, tty); got != 0 {
			t.Errorf("it is uid %d's", got)
		}
	})
	t.Run("and is whose it has become meanwhile", func(t *testing.T) {
		newEtc(t)
		keys, tty := openPTY(t)
		process, peer := onTerminal(t, stack(t), tty, "read -r line")
		firstOf(peer, "opened")
		if err := os.Chown(tty.Name(), 60004, -1); err != nil {
			t.Fatal(err)
		}
		_, _ = keys.WriteString("\n")
		firstOf(peer, "closed")
		process.Wait()
		if got := owner(t, tty); got != 60004 {
			t.Errorf("it is uid %d's", got)
		}
	})
}

// What is not one terminal must not become anybody's, nor give its name: these are
// files of everybody, and of root.
func TestWhatIsNotOneTerminalIsNobodys(t *testing.T) {
	keys, tty := openPTY(t)
	ptmx, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ptmx.Close() })
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	for _, c := range []struct {
		name string
		f    *os.File
		own  bool
	}{{"the other end", keys, false}, {"the other end in /dev/pts", ptmx, false}, {"the terminal", tty, true}} {
		found, err := findTerminal(int(c.f.Fd()))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		before, passed := owner(t, c.f), found.pass(0, annaUID)
		if after := owner(t, c.f); passed != c.own || (after == annaUID) != c.own || (found.name != "") != c.own {
			t.Errorf("%s was uid %d's and is uid %d's, by the name %q", c.name, before, after, found.name)
		}
		found.pass(annaUID, 0)
		found.close()
	}
	for path, want := range map[string]bool{"/dev/tty": false, "/dev/console": false, "/dev/tty0": false, "/dev/tty1": true, "/dev/null": false, tty.Name(): true, "/": false} {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Logf("%s: %v", path, err)
			continue
		}
		if got := isTerminal(fd); got != want {
			t.Errorf("%s: %v", path, got)
		}
		_ = unix.Close(fd)
	}
	if _, err := findTerminal(int(null.Fd())); err == nil {
		t.Error("/dev/null is a terminal")
	}
}

// Whoever reads the other end of a pseudo-terminal sees its end when no program has
// it any more: the worker is none.
func TestTheWorkerDoesNotKeepTheTerminalOpen(t *testing.T) {
	newEtc(t)
	keys, tty := openPTY(t)
	_, peer := onTerminal(t, stack(t), tty, "setsid sh -c 'exec </dev/null >/dev/null 2>&1; sleep 1000' & exit 0")
	_ = tty.Close()
	firstOf(peer, "exited")
	if n, err := keys.Read(make([]byte, 1)); err == nil {
		t.Errorf("there are %d bytes to be read", n)
	}
	firstOf(peer, "closed") // by itself, with its command
}

func TestModulesAreToldOfTheTerminal(t *testing.T) {
	newEtc(t)
	tell := func(option string) (told, name string) {
		_, tty := openPTY(t)
		dir := stack(t, "session required {probe} open:tty=TTY")
		process, peer := onTerminal(t, dir, tty, "exit 0", options(func(o *worker.Options) { o.Tty = option }))
		said := firstOf(peer, "opened", "failed")
		firstOf(peer, "closed")
		process.Wait()
		for _, entry := range said.GetOpened().GetEnvironment() {
			if value, ok := strings.CutPrefix(string(entry), "TTY="); ok {
				told = value
			}
		}
		return told, strings.TrimPrefix(tty.Name(), "/dev/")
	}
	if got, name := tell(""); got != name {
		t.Errorf("PAM_TTY is %q, and the terminal is %q", got, name)
	}
	if got, _ := tell("tty7"); got != "tty7" {
		t.Errorf("PAM_TTY is %q, and not what the opener said", got)
	}
	t.Run("only by a name that is that terminal here", func(t *testing.T) {
		newEtc(t)
		// As of an opener with a /dev/pts of its own, which has other terminals.
		_, tty := openPTY(t)
		if err := unix.Mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"); err != nil {
			t.Fatal(err)
		}
		for range 10 { // terminals of the same names
			_, other := ownPTY(t)
			defer func() { _ = other.Close() }()
		}
		dir := stack(t, "session required {probe} open:tty=TTY")
		process, peer := onTerminal(t, dir, tty, "exit 0")
		said := firstOf(peer, "opened", "failed")
		if got := said.GetOpened().GetEnvironment(); !slices.ContainsFunc(got, func(entry []byte) bool { return string(entry) == "TTY=none" }) {
			t.Errorf("%s: the environment is %q", convtest.Describe(said), got)
		}
		firstOf(peer, "closed")
		process.Wait()
	})
}

// ownPTY opens a pseudo-terminal of the instance that is mounted on /dev/pts.
func ownPTY(t testing.TB) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keys, tty
}
