// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"io"
	"os"
	"os/signal"
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

// commanded is a session with a command, and the other ends of its stdio.
type commanded struct {
	t       testing.TB
	broker  *convtest.Broker
	process *convtest.Process
	peer    *convtest.Peer
	in      *os.File // standard input
	out     *os.File // standard output and error
}

// command starts a session of a user with a command on the service "test" of a
// directory.
func command(t testing.TB, dir, user string, c *worker.Command, changes ...func(*worker.Start)) *commanded {
	t.Helper()
	s := &commanded{t: t}
	s.broker, s.process, s.peer = run(t, dir)
	theirs, in := ends(t)
	out, theirOut := ends(t)
	s.in, s.out = in, out
	c.Stdio = true
	changes = append([]func(*worker.Start){func(start *worker.Start) {
		start.Command, start.CloseTimeoutUsec = c, 5_000_000
	}}, changes...)
	s.peer.Start(convtest.Start("test", user, changes...), theirs, theirOut, theirOut)
	_, _ = theirs.Close(), theirOut.Close()
	return s
}

// ends returns both ends, which do not wait in Go's poller: they are passed on.
func ends(t testing.TB) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), writer.Close() })
	return reader, writer
}

func shell(text string) *worker.Command {
	return &worker.Command{Arguments: []string{"/bin/sh", "-c", text}}
}

// opened waits until the session is open, and returns the command's pid.
func (s *commanded) opened() int {
	s.t.Helper()
	for {
		m := s.peer.Next()
		if o := m.GetOpened(); o != nil {
			return int(o.GetPid())
		}
		if m.GetFailed() != nil {
			s.t.Fatal(convtest.Describe(m))
		}
	}
}

// output is all that the command has written, when the last process has closed
// its standard output.
func (s *commanded) output() string {
	s.t.Helper()
	text, err := io.ReadAll(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// line is the next line of the output.
func (s *commanded) line() string {
	s.t.Helper()
	var line []byte
	for one := make([]byte, 1); ; line = append(line, one[0]) {
		if _, err := s.out.Read(one); err != nil {
			s.t.Fatalf("the output ended after %q: %v", line, err)
		}
		if one[0] == '\n' {
			return string(line)
		}
	}
}

// ends wants the session to end, and this to be said from now on, but for phases.
func (s *commanded) ends(want ...string) {
	s.t.Helper()
	wantSaid(s.t, s.rest(), want...)
	s.process.Wait()
}

// rest is what the worker says until the session has ended.
func (s *commanded) rest() (said []string) {
	s.t.Helper()
	for {
		m := s.peer.Next()
		if m.GetEntering() == nil && m.GetResolved() == nil && m.GetOpened() == nil {
			said = append(said, convtest.Describe(m))
		}
		if m.GetClosed() != nil || m.GetFailed() != nil {
			return said
		}
	}
}

// facts runs a shell script as a command and returns what it prints, as
// NAME=value. The session ends when the script has.
func facts(t testing.TB, dir, user, script string, changes ...func(*worker.Start)) map[string]string {
	t.Helper()
	s := command(t, dir, user, shell(script), changes...)
	s.opened()
	text := s.output()
	s.ends("exited 0", "closed 0 the command ended with status 0")
	facts := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		facts[name] = value
	}
	return facts
}

func wantFacts(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, not %q", name, got[name], value)
		}
	}
}

// whoAmI prints what a process is and has, with the shell's own commands where
// another process would have something else.
const whoAmI = `echo uid=$(id -u) ; echo gid=$(id -g); echo groups=$(id -G); pwd=$(pwd); echo pwd=$pwd
while read -r name value; do case $name in Sig*|Cap*|NoNewPrivs:|Seccomp:|NSsid:|Umask:) echo ${name%:}=$value;; esac; done < /proc/$$/status
read -r pid comm state ppid pgrp session rest < /proc/$$/stat; echo leads=$(( pid == session && pid == pgrp ))
echo descriptors=$(ls /proc/self/fd)
echo owner=$(stat -c %u /proc/$$/stat)
env | sed s/^/env./
`

func TestWhatTheCommandIs(t *testing.T) {
	newEtc(t)
	signal.Ignore(unix.SIGINT, unix.SIGHUP) // as nohup and a shell's & have it
	defer signal.Reset(unix.SIGINT, unix.SIGHUP)
	dir := stack(t, "session required {probe} open:putenv=LANG=C.UTF-8 open:putenv=SHELL=/bin/dash open:leave-open=/etc/shadow")
	got := facts(t, dir, "anna", whoAmI)
	wantFacts(t, got, map[string]string{
		"uid": "60001", "gid": "60000", "groups": "60000 60010 60011", "pwd": "/", "leads": "1", "descriptors": "0 1 2 3", "owner": "60001",
		"SigBlk": "0000000000000000", "SigIgn": "0000000000000000", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
		"CapAmb": "0000000000000000", "NoNewPrivs": "0", "Umask": "0022",
		"env.HOME": "/nonexistent", "env.USER": "anna", "env.LOGNAME": "anna", "env.PATH": userPath,
		"env.LANG": "C.UTF-8", "env.SHELL": "/bin/dash", // PAM's comes first
	})
	if names := envNames(got); names != "HOME LANG LOGNAME PATH PWD SHELL USER" { // PWD is the shell's own
		t.Errorf("the environment has %s", names)
	}
	t.Run("of root", func(t *testing.T) {
		newEtc(t)
		wantFacts(t, facts(t, stack(t), "root", whoAmI), map[string]string{
			"uid": "0", "gid": "0", "groups": "0 60011", "env.HOME": "/root", "env.PATH": rootPath, "pwd": "/root",
		})
	})
	t.Run("without the phase that gives groups", func(t *testing.T) {
		newEtc(t)
		wantFacts(t, facts(t, stack(t), "anna", whoAmI, options(func(o *worker.Options) {
			o.Phases = []worker.Phase{worker.Phase_PHASE_SESSION}
		})), map[string]string{"uid": "60001", "gid": "60000", "groups": "60000 60010 60011"})
	})
}

func envNames(facts map[string]string) string {
	var names []string
	for name := range facts {
		if variable, ok := strings.CutPrefix(name, "env."); ok && variable != "_" {
			names = append(names, variable)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// What pam_group adds is kept.
func TestGroupsThatModulesAdd(t *testing.T) {
	e := newEtc(t)
	e.security("group.conf", "*;*;anna;Al0000-2400;adm\n")
	got := facts(t, stack(t, "auth required {permit}", "auth optional {group}"), "anna", whoAmI)
	groups := strings.Fields(got["groups"])
	slices.Sort(groups)
	if strings.Join(groups, " ") != "4 60000 60010 60011" {
		t.Errorf("the groups are %s", got["groups"])
	}
}

const someLimits = `echo soft=$(ulimit -Sn); echo hard=$(ulimit -Hn); echo core=$(ulimit -Sc); echo hardcore=$(ulimit -Hc)
`

// Go raises its own limit of open files, and the worker forbids itself core
// files: neither is for the command. What pam_limits sets is.
func TestLimits(t *testing.T) {
	first := firstLimits() // of this process; os/exec gives the worker the same
	shown := func(l uint64, unit uint64) string {
		if l == unix.RLIM_INFINITY {
			return "unlimited"
		}
		return strconv.FormatUint(l/unit, 10)
	}
	for _, test := range []struct {
		name, conf string
		want       map[string]string
	}{
		{"that nobody sets", "", map[string]string{
			"soft": shown(first.files.Cur, 1), "hard": shown(first.files.Max, 1),
			"core": shown(first.core.Cur, 512), "hardcore": shown(first.core.Max, 512),
		}},
		{"of open files", "anna soft nofile 512\nanna hard nofile 768\n", map[string]string{"soft": "512", "hard": "768"}},
		{"of open files that the process may raise", fmt.Sprintf("anna soft nofile 512\nanna hard nofile %d\n", first.files.Max), map[string]string{
			"soft": "512", "hard": shown(first.files.Max, 1),
		}},
		{"of core files", "anna soft core 1000\n", map[string]string{"core": "2000", "hardcore": shown(first.core.Max, 512)}},
		{"of open files that are those of Go", fmt.Sprintf("anna - nofile %d\n", first.files.Max), map[string]string{
			"soft": shown(first.files.Max, 1), "hard": shown(first.files.Max, 1),
		}},
		{"of core files that are those of the worker", "anna - core 0\n", map[string]string{"core": "0", "hardcore": "0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t)
			dir := stack(t, "session required {limits} conf={dir}/limits")
			write(t, filepath.Join(dir, "limits"), test.conf)
			wantFacts(t, facts(t, dir, "anna", someLimits), test.want)
		})
	}
}

// What the session may have open is not what the worker may: it has to dial the
// broker, and libpam the audit system.
func TestFewOpenFilesAreTheCommandsAlone(t *testing.T) {
	newEtc(t)
	dir := stack(t, "session required {probe} open:limit-files=20")
	s := command(t, dir, "anna", shell("ulimit -Sn; read -r line"))
	s.opened()
	if got := s.line(); got != "20" {
		t.Errorf("the command may have %s files open", got)
	}
	var own unix.Rlimit
	if err := unix.Prlimit(s.process.Pid, unix.RLIMIT_NOFILE, nil, &own); err != nil || own != firstLimits().files {
		t.Errorf("the worker may have %d (%v)", own.Cur, err)
	}
	_ = s.in.Close()
	s.ends("exited 1", "closed 0 the command ended with status 1")
}

func printKeyring() {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	fmt.Println("keyring="+strconv.Itoa(id), err)
	os.Exit(0)
}

func TestWhatBelongsToTheThreadOfTheModules(t *testing.T) {
	mine, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		t.Logf("the test has no session keyring: %v", err)
	}
	t.Run("loginuid", func(t *testing.T) {
		newEtc(t)
		got := facts(t, stack(t, "session required {loginuid}"), "anna", "echo loginuid=$(cat /proc/self/loginuid)")
		wantFacts(t, got, map[string]string{"loginuid": "60001"})
	})
	t.Run("the session keyring", func(t *testing.T) {
		newEtc(t)
		self := filepath.Join(t.TempDir(), "self") // where anna may run it
		copyFile(t, "/proc/self/exe", self)
		got := facts(t, stack(t, "session required {keyinit} force"), "anna", self+" --keyring")["keyring"]
		if id, _, _ := strings.Cut(got, " "); id == "" || id == strconv.Itoa(mine) || !strings.HasSuffix(got, "<nil>") {
			t.Errorf("the keyring is %q, that of the test %d", got, mine)
		}
	})
	t.Run("the mount namespace", func(t *testing.T) {
		e := newEtc(t)
		e.security("namespace.conf", "/var/tmp tmpfs tmpfs:noinit root\n")
		got := facts(t, stack(t, "session required {namespace}"), "anna", "echo type=$(stat -f -c %T /var/tmp)")
		wantFacts(t, got, map[string]string{"type": "tmpfs"})
		var st unix.Statfs_t
		if err := unix.Statfs("/var/tmp", &st); err != nil || st.Type == unix.TMPFS_MAGIC {
			t.Errorf("the test's own /var/tmp is a tmpfs too (%v)", err)
		}
	})
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o755)
	}
	for dir := filepath.Dir(to); err == nil && dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestStdio(t *testing.T) {
	t.Run("is the opener's", func(t *testing.T) {
		s := command(t, stack(t), "root", shell("read -r line; echo got $line; echo and >&2"))
		s.opened()
		_, _ = s.in.WriteString("words\n")
		if got := s.output(); got != "got words\nand\n" {
			t.Errorf("it printed %q", got)
		}
		s.ends("exited 0", "closed 0 the command ended with status 0")
	})
	t.Run("is let go when no command comes of it", func(t *testing.T) {
		s := command(t, stack(t, "auth required {deny}"), "root", shell("true"))
		for s.peer.Next().GetFailed() == nil {
		}
		if got := s.output(); got != "" { // returns at all
			t.Errorf("it printed %q", got)
		}
		s.process.Wait()
	})
	t.Run("is the command's alone", func(t *testing.T) {
		s := command(t, stack(t), "root", shell("exec >/dev/null 2>&1; read -r line"))
		s.opened()
		if got := s.output(); got != "" { // returns while the command runs
			t.Errorf("it printed %q", got)
		}
		_ = s.in.Close()
		s.ends("exited 1", "closed 0 the command ended with status 1")
	})
	t.Run("without any is /dev/null", func(t *testing.T) {
		dir := stack(t)
		_, process, peer := run(t, dir)
		c := shell("for f in 0 1 2; do readlink /proc/$$/fd/$f; done > " + dir + "/got")
		peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Command = c }))
		for peer.Next().GetClosed() == nil {
		}
		process.Wait()
		if got := lines(t, filepath.Join(dir, "got")); !slices.Equal(got, []string{"/dev/null", dir + "/got", "/dev/null"}) {
			t.Errorf("it is %q", got)
		}
	})
	t.Run("does not wait where it did not", func(t *testing.T) {
		s := command(t, stack(t), "root", shell("true"))
		s.opened()
		s.ends("exited 0", "closed 0 the command ended with status 0")
		raw, _ := s.out.SyscallConn()
		_ = raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("the flags of our end are %#x (%v)", flags, err)
			}
		})
	})
	for _, n := range []int{0, 1, 2} {
		t.Run(fmt.Sprintf("is three descriptors and not %d", n), func(t *testing.T) {
			_, _, peer := run(t, stack(t))
			null, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = null.Close() }()
			c := &worker.Command{Arguments: []string{"true"}, Stdio: true}
			peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Command = c }), slices.Repeat([]*os.File{null}, n)...)
			if m, err := peer.Receive(); err == nil {
				t.Errorf("the worker said %s", convtest.Describe(m))
			}
		})
	}
}

func firstOf(peer *convtest.Peer, words ...string) *worker.ToBroker {
	for {
		m := peer.Next()
		for _, word := range words {
			if strings.HasPrefix(convtest.Describe(m), word) {
				return m
			}
		}
	}
}

func TestTheControllingTerminal(t *testing.T) {
	master, slave := pty.Open(t)
	start := func(name string, slave *os.File) (*convtest.Process, *convtest.Peer) {
		_, process, peer := run(t, stack(t))
		c := shell("exec 3<>/dev/tty && echo " + name + " has it >&3; read -r line")
		c.Stdio, c.Terminal = true, true
		peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Command = c }), slave, slave, slave)
		return process, peer
	}
	process, peer := start("first", slave)
	buffer := make([]byte, 100)
	if m := firstOf(peer, "opened", "failed"); m.GetFailed() != nil {
		t.Fatal(convtest.Describe(m))
	}
	n, err := master.Read(buffer)
	if got := string(buffer[:n]); got != "first has it\r\n" {
		t.Errorf("the terminal shows %q (%v)", got, err)
	}
	t.Run("of another session is not taken away", func(t *testing.T) {
		process, peer := start("second", slave)
		wantSaid(t, convtest.Continue(peer)[6:], "entering close-session", "entering delete-credentials", "entering end",
			"failed CommandFailed 0 make the first of stdio the controlling terminal: operation not permitted")
		process.Wait()
	})
	t.Run("has to be one", func(t *testing.T) {
		reader, _ := ends(t)
		process, peer := start("third", reader)
		peer.Expect("failed InvalidArgument 0 the first of stdio is no terminal: inappropriate ioctl for device")
		process.Wait()
	})
	if _, err := master.WriteString("done\n"); err != nil {
		t.Fatal(err)
	}
	for peer.Next().GetClosed() == nil {
	}
	process.Wait()
}

func TestCommandsThatCannotBe(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain, "true\n")
	notOurs := filepath.Join(t.TempDir(), "no-program")
	copyFile(t, "/etc/passwd", notOurs)
	for _, test := range []struct {
		name    string
		user    string
		command *worker.Command
		text    string
	}{
		{"a program that is not there", "anna", &worker.Command{Arguments: []string{"/nosuch"}}, "run /nosuch: no such file or directory"},
		{"a name that is nowhere", "anna", &worker.Command{Arguments: []string{"no-such-program"}},
			"run no-such-program: there is no such program in " + userPath},
		{"a program in a directory that the user may not enter", "anna", &worker.Command{Arguments: []string{plain}}, "run " + plain + ": permission denied"},
		{"a directory as a program", "anna", &worker.Command{Arguments: []string{"/"}}, "run /: permission denied"},
		{"a program that is none", "anna", &worker.Command{Arguments: []string{notOurs}}, "run " + notOurs + ": exec format error"},
		{"a directory that is not there", "anna", &worker.Command{Arguments: []string{"true"}, Directory: "/nosuch"}, "enter /nosuch: no such file or directory"},
		{"a directory that is not the user's", "anna", &worker.Command{Arguments: []string{"true"}, Directory: "/root"}, "enter /root: permission denied"},
		{"a home that is not there", "anna", &worker.Command{Arguments: []string{"true"}, Directory: "~"}, "enter /nonexistent: no such file or directory"},
		{"a home that is somebody else's", "bert", &worker.Command{Arguments: []string{"true"}, Directory: "~"}, "enter /root: permission denied"},
		{"a user that nobody knows", "nobody-knows", &worker.Command{Arguments: []string{"true"}}, "NSS does not know the user nobody-knows"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/bin/sh\nbert:x:60002:60000::/root:/bin/sh\n")
			s := command(t, stack(t, logged("")...), test.user, test.command)
			s.ends("failed CommandFailed 0 " + test.text)
			if got := s.output(); got != "" {
				t.Errorf("it printed %q", got)
			}
		})
	}
	t.Run("too many processes of the user", func(t *testing.T) {
		e := newEtc(t)
		// Nobody else's uid: its processes are counted.
		e.write("passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nanna:x:%d:60000::/nonexistent:/bin/sh\n", 1<<24+os.Getpid()))
		dir := stack(t, append(logged(""), "session required {limits} conf={dir}/limits")...)
		write(t, filepath.Join(dir, "limits"), "anna - nproc 0\n")
		first := command(t, dir, "anna", shell("read -r line"))
		first.opened()
		second := command(t, dir, "anna", shell("true"))
		second.ends("failed CommandFailed 0 run /bin/sh: resource temporarily unavailable")
		log := lines(t, filepath.Join(dir, "log"))
		if want := []string{"open", "close", "delcred", "end 0"}; !slices.Equal(log[len(log)-4:], want) {
			t.Errorf("the module saw %q in the end, not %q", log, want)
		}
		_ = first.in.Close()
		first.ends("exited 1", "closed 0 the command ended with status 1")
	})
}

func TestPathsOfAName(t *testing.T) {
	for _, test := range []struct{ name, path, want string }{
		{"/bin/ls", "/usr/bin", "/bin/ls"},
		{"ls", "/usr/bin:/bin/", "/usr/bin/ls /bin/ls"},
		{"ls", ":.:bin::/bin:", "/bin/ls"},
		{"ls", "", ""},
	} {
		if got := strings.Join(programs(test.name, []string{"PATH=" + test.path}), " "); got != test.want {
			t.Errorf("%s in %q is %q, not %q", test.name, test.path, got, test.want)
		}
	}
}
