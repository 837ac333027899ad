// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
	"github.com/pamprompt/pamprompt/tests/modules"
)

// The test binary is also the worker, which needs the main thread.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if program, is := programsOfTests[os.Args[1]]; is {
			program(os.Args[2:])
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

// programsOfTests are what the test binary is besides, if its first argument says so.
var programsOfTests = map[string]func(args []string){
	"--idle":    runWorker,
	"--under":   runUnder,
	"--keys":    runKeys,
	"--stopped": runStopped,
}

func runWorker(args []string) {
	var c Config
	set := flag.NewFlagSet("worker", flag.ExitOnError)
	set.StringVar(&c.Socket, "socket", "", "")
	set.StringVar(&c.PAMDir, "pam-dir", "", "")
	set.StringVar(&c.Credentials, "credentials", "", "")
	set.DurationVar(&c.BrokerTimeout, "broker-timeout", 0, "")
	_ = set.Parse(args)
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := Work(c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// stack writes the service "test" and returns its directory. {probe}, {permit}
// and so on stand for the paths of modules, {dir} for the directory; a type
// that no line has is pam_permit.
func stack(t testing.TB, lines ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, kind := range []string{"auth", "account", "password", "session"} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, kind) }) {
			lines = append(lines, kind+" required {permit}")
		}
	}
	text := strings.Join(lines, "\n") + "\n"
	replacements := []string{"{dir}", dir}
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			break
		}
		name, tail, _ := strings.Cut(after, "}")
		rest = tail
		switch name {
		case "dir":
		case "probe":
			replacements = append(replacements, "{probe}", modules.Probe(t))
		default:
			replacements = append(replacements, "{"+name+"}", modules.System(t, "pam_"+name))
		}
	}
	text = strings.NewReplacer(replacements...).Replace(text)
	if err := os.WriteFile(filepath.Join(dir, "test"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run starts a worker on the stacks of a directory.
func run(t testing.TB, dir string, args ...string) (*convtest.Broker, *convtest.Process, *convtest.Peer) {
	t.Helper()
	broker := convtest.Listen(t)
	args = append([]string{"--idle", "--socket", broker.Socket, "--pam-dir", dir}, args...)
	process := convtest.Run(t, nil, args...)
	return broker, process, broker.Accept()
}

// play runs a whole session of root on the service "test" and returns what the
// worker said.
func play(t testing.TB, dir string, change func(*worker.Start), replies ...convtest.Reply) []string {
	t.Helper()
	_, process, peer := run(t, dir)
	if change == nil {
		change = func(*worker.Start) {}
	}
	said := convtest.Play(peer, convtest.Start("test", "root", change), replies...)
	if end := process.Wait(); end != "exit status 0" {
		t.Errorf("the worker ended with %s", end)
	}
	return said
}

// wantSaid fails the test unless the worker said exactly this.
func wantSaid(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the worker said\n\t%s\nnot\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// lines reads a file that modules appended to.
func lines(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// options changes the options of a Start.
func options(change func(*worker.Options)) func(*worker.Start) {
	return func(s *worker.Start) { change(s.Options) }
}
