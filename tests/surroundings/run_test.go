// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// runDir is a /run of its own, a tmpfs in a mount namespace which a process holds.
type runDir struct {
	t   *testing.T
	pid int
}

// newRunDir mounts one with these options, of tmpfs(5).
func newRunDir(t *testing.T, options string) runDir {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
		`mount -t tmpfs -o "$0" none /run && echo there && exec cat`, options)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	end, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = end.Close(), cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "there\n" {
		t.Fatalf("a /run of its own: %q, %v", line, err)
	}
	return runDir{t, cmd.Process.Pid}
}

// enter is what has a program run there.
func (r runDir) enter() []string {
	return []string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", r.pid), "--"}
}

// path is where something of it is found from here.
func (r runDir) path(name string) string { return fmt.Sprintf("/proc/%d/root/run/%s", r.pid, name) }

// only makes it read-only ("ro"), or no more ("rw").
func (r runDir) only(how string) {
	r.t.Helper()
	if out, err := exec.Command(r.enter()[0], append(r.enter()[1:], "mount", "-o", "remount,"+how, "/run")...).CombinedOutput(); err != nil {
		r.t.Fatalf("remount: %v\n%s", err, out)
	}
}

// fill takes all its bytes and its inodes, in a directory of it. The function gives them back.
func (r runDir) fill(dir string) (empty func()) {
	r.t.Helper()
	var made []string
	for i := 0; ; i++ {
		path := r.path(filepath.Join(dir, fmt.Sprint("fill-", i)))
		f, err := os.Create(path)
		if errors.Is(err, unix.ENOSPC) && i > 0 {
			break
		}
		if err == nil {
			made = append(made, path)
			_, err = io.Copy(f, io.LimitReader(zeros{}, 1<<20))
			_ = f.Close()
		}
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			r.t.Fatal(err)
		}
	}
	return func() {
		for _, path := range slices.Backward(made) {
			if err := os.Remove(path); err != nil {
				r.t.Error(err)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A broker whose /run is full or read-only does not start, and says in one line why.
func TestNoStartWithoutRoomInRun(t *testing.T) {
	needRoot(t)
	programs := system.Build(t)
	private := []string{"--private-bus", "--worker", programs.Worker}
	for _, c := range []struct {
		name, options string
		readOnly      bool
		full          bool
		args          []string
		says          string
	}{
		{"a private bus, read-only", "size=64k", true, false, private, "make a directory for the private bus: mkdir /run/pamprompt-*: read-only file system"},
		{"a private bus, no inode", "nr_inodes=1", false, false, private, "make a directory for the private bus: mkdir /run/pamprompt-*: no space left on device"},
		{"a private bus, no byte", "size=4k", false, true, private, "write the configuration of the private bus: write /run/pamprompt-*/bus.conf: no space left on device"},
		{"a private bus, two inodes", "nr_inodes=4", false, false, private, "make the directory of the worker socket: mkdir /run/pamprompt-*/workers: no space left on device"},
		{"read-only", "size=64k", true, false, nil, "make the directory of the worker socket: mkdir /run/pamprompt: read-only file system"},
		{"no inode", "nr_inodes=1", false, false, nil, "make the directory of the worker socket: mkdir /run/pamprompt: no space left on device"},
		{"one inode", "nr_inodes=2", false, false, nil, "listen for workers: listen unixpacket /run/pamprompt/broker.sock: bind: no space left on device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := newRunDir(t, c.options)
			if c.full {
				if err := os.WriteFile(run.path("full"), make([]byte, 4096), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.readOnly {
				run.only("ro")
			}
			began := time.Now()
			cmd := exec.CommandContext(within(t), run.enter()[0], append(append(run.enter()[1:], programs.Broker), c.args...)...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("it ended with %v after %v", err, time.Since(began))
			}
			// The bus, which is stopped then, may have a line of its own, which need not come in one piece.
			wanted := "pamprompt-broker: " + strings.ReplaceAll(regexp.QuoteMeta(c.says), `\*`, "[0-9]+") + "\n"
			if !regexp.MustCompile(wanted).Match(out) || strings.Count(string(out), "pamprompt-broker: ") != 1 {
				t.Errorf("it said %q, not %q", out, c.says)
			}
			if left, _ := filepath.Glob(run.path("pamprompt-*")); len(left) > 0 {
				t.Errorf("it has left %q", left)
			}
		})
	}
}

// /run becomes full, or read-only, under a broker that has its socket and the directory of password
// agents there: prompts are answered over the bus, sessions open, requests are written later.
func TestRunIsFullOrReadOnly(t *testing.T) {
	needRoot(t)
	for _, c := range []struct{ name, why string }{
		{"full", "no space left on device"},
		{"read-only", "read-only file system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := newRunDir(t, "size=128k,nr_inodes=64")
			const requests = "systemd/ask-password"
			if err := os.MkdirAll(run.path(requests), 0o755); err != nil {
				t.Fatal(err)
			}
			b := on(t, system.StartOnBus(t, system.Options{Stacks: stacks(t), Through: run.enter(),
				BrokerArgs: []string{"--socket", "/run/pamprompt/broker.sock", "--ask-password=/run/" + requests}}))
			journal := b.journal()
			var goesOn func()
			again := func() { run.only("rw") }
			if c.name == "full" {
				goesOn = b.bystander()
				system.AwaitFiles(t, run.path(requests), func() bool { return socketOf(run.path(requests), "bystander") != "" })
				again = run.fill(requests)
			} else { // which the kernel refuses while a request is open
				run.only("ro")
				goesOn = b.bystander()
			}
			now, later := b.open(b.here, "ask", api.Options{Linger: true}), b.open(b.here, "ask", api.Options{Linger: true, Reason: "later"})
			if err := b.give(b.here, b.promptOf(now).ID); err != nil {
				t.Errorf("meanwhile an answer is refused: %v", err)
			}
			b.wait(now, api.StateOpen)
			b.promptOf(later)
			b.works()
			journal.says(c.why)
			if socketOf(run.path(requests), "later") != "" {
				t.Error("a request was written where there is no room")
			}
			again()
			touch(t, run.path(requests))
			began := time.Now()
			system.AwaitFiles(t, run.path(requests), func() bool { return socketOf(run.path(requests), "later") != "" })
			saw(t, "/run was %s: prompts were answered, sessions opened; a request was written %v after there was room", c.name, time.Since(began).Round(time.Millisecond))
			if c.name == "full" { // another broker takes the place of the socket that is there
				empty := run.fill("")
				b.Kill(t)
				b.Restart(t)
				b.come()
				b.promptOf(later)
				b.back(now)
				empty()
			}
			b.close(now)
			b.close(later)
			goesOn()
		})
	}
}

// touch has a watcher of a directory look again.
func touch(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "nothing")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
