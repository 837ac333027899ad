// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/conv/convtest"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// TestMain makes the test binary the worker and the pool, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "--idle" || os.Args[1] == "--pool") {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// stack writes the service "test", in which pam_probe has these arguments.
func stack(t testing.TB, probe string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	probe = strings.ReplaceAll(" required "+modules.Probe(t)+" "+probe+"\n", "{dir}", dir)
	var text strings.Builder
	for _, kind := range []string{"auth", "account", "password", "session"} {
		text.WriteString(kind + probe)
	}
	if err := os.WriteFile(filepath.Join(dir, "test"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// idle starts a worker without a pool.
func idle(t testing.TB, dir string) (*convtest.Process, *convtest.Peer) {
	t.Helper()
	broker := convtest.Listen(t)
	process := convtest.Run(t, nil, "--idle", "--socket", broker.Socket, "--pam-dir", dir)
	return process, broker.Accept()
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		args []string
		err  string
	}{
		{"a pool", []string{"--pool", "--socket", "x"}, ""},
		{"a worker with its own stacks", []string{"--idle", "--socket", "x", "--pam-dir", dir}, ""},
		{"nothing", nil, "one of --pool and --idle is needed"},
		{"both", []string{"--pool", "--idle", "--socket", "x"}, "one of --pool and --idle is needed"},
		{"no socket", []string{"--idle"}, "--socket is needed"},
		{"a size of nothing", []string{"--pool", "--socket", "x", "--size", "0"}, "--size must be 1 to 1024"},
		{"an argument too many", []string{"--pool", "--socket", "x", "y"}, `there is no argument "y"`},
		{"an option that is none", []string{"--poll"}, "flag provided but not defined"},
		{"stacks that are not there", []string{"--idle", "--socket", "x", "--pam-dir", dir + "/none"}, "is not a directory with PAM stacks"},
		{"a level that is none", []string{"--idle", "--socket", "x", "--log-level", "loud"}, "invalid value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := parse(test.args)
			if test.err == "" {
				if err != nil || !filepath.IsAbs(f.socket) {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("the error is %v, not %s", err, test.err)
			}
		})
	}
}

func TestAWrongCommandLineSaysSo(t *testing.T) {
	process := convtest.Run(t, nil, "--idle")
	if end := process.Wait(); end != "exit status 2" || !strings.Contains(process.Log(), "--socket is needed") {
		t.Errorf("the worker ended with %s and said %q", end, process.Log())
	}
}

// TestTheProcessThatModulesRunIn has a module look at it.
func TestTheProcessThatModulesRunIn(t *testing.T) {
	t.Setenv("NOT_TO_BE", "inherited")
	hard := allowCore(t)
	dir := stack(t, "auth:facts={dir}/auth open:facts={dir}/open close:facts={dir}/close")
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	broker := convtest.Listen(t)
	process := convtest.Run(t, []*os.File{theirs}, "--idle", "--socket", broker.Socket, "--pam-dir", dir)
	_ = theirs.Close()
	convtest.Play(broker.Accept(), convtest.Start("test", "root"))
	process.Wait()
	want := fmt.Sprintf("main thread 1\nvariables 0\ndumpable 0\ncore 0 of %d\numask 022\ncwd /\nsession leader 1\n"+
		"SIGPIPE ignored 0\ninherited descriptors 0\n", hard)
	for _, phase := range []string{"auth", "open", "close"} {
		got, err := os.ReadFile(filepath.Join(dir, phase))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("in %s modules found\n%snot\n%s", phase, got, want)
		}
	}
}

// allowCore lets what the test starts leave core files as large as it may, and returns
// how large.
func allowCore(t *testing.T) (hard uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) })
	return limit.Max
}

// TestCrashes: a module that crashes ends the process by its signal, and no
// report says what was in the registers.
func TestCrashes(t *testing.T) {
	for _, phase := range []string{"auth", "account", "chauthtok", "setcred", "open", "close", "delcred"} {
		for signal, end := range map[string]string{
			"SEGV": "signal: segmentation fault",
			"ABRT": "signal: aborted",
			"KILL": "signal: killed",
		} {
			t.Run(fmt.Sprintf("SIG%s in %s", signal, phase), func(t *testing.T) {
				probe := fmt.Sprintf("[%s:ask=secret,Password: ] %s:crash=%s", phase, phase, signal)
				if phase == "chauthtok" {
					probe += " account:result=PAM_NEW_AUTHTOK_REQD"
				}
				if phase == "close" || phase == "delcred" {
					probe = fmt.Sprintf("%s:crash=%s", phase, signal)
				}
				process, peer := idle(t, stack(t, probe))
				said := convtest.Play(peer, convtest.Start("test", "root"), convtest.Answer("the secret"))
				if last := said[len(said)-1]; strings.HasPrefix(last, "closed") || strings.HasPrefix(last, "failed") {
					t.Errorf("the worker ended with %q", last)
				}
				if got := process.Wait(); got != end {
					t.Errorf("the worker ended with %s, not %s", got, end)
				}
				if log := process.Log(); log != "" {
					t.Errorf("the worker said %q", log)
				}
			})
		}
	}
}

// TestSignalsThatDoNotEndASession: a terminal closes, the log's pipe breaks.
func TestSignalsThatDoNotEndASession(t *testing.T) {
	process, peer := idle(t, stack(t, "auth:ask=secret,x"))
	peer.Start(convtest.Start("test", "root"))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "prompt 0 secret x")
	for _, s := range signals {
		process.Signal(s)
	}
	peer.Answer(0, "x")
	if said := convtest.Continue(peer); !slices.Contains(said, "closed 0") {
		t.Errorf("the worker said %q", said)
	}
}
