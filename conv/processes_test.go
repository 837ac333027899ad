// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

func TestHowACommandEnds(t *testing.T) {
	for _, test := range []struct {
		script string
		said   []string
	}{
		{"exit 0", []string{"exited 0", "closed 0 the command ended with status 0"}},
		{"exit 3", []string{"exited 3", "closed 0 the command ended with status 3"}},
		{"exit 255", []string{"exited 255", "closed 0 the command ended with status 255"}},
		{"kill -TERM $$", []string{"exited 0 15", "closed 0 the command was killed by SIGTERM"}},
		{"kill -KILL $$", []string{"exited 0 9", "closed 0 the command was killed by SIGKILL"}},
	} {
		t.Run(test.script, func(t *testing.T) {
			dir := stack(t, logged("")...)
			s := command(t, dir, "root", shell(test.script))
			s.ends(test.said...)
			if got := lines(t, filepath.Join(dir, "log")); !slices.Equal(got[len(got)-4:], []string{"open", "close", "delcred", "end 0"}) {
				t.Errorf("the module saw %q", got)
			}
		})
	}
}

// pidfd holds a process, to see later whether it has ended.
func pidfd(t testing.TB, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func ended(t testing.TB, fd int) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

// daemon is a process of the command that is its child no more, in a session of
// its own, and waits for what a fifo says.
const daemon = `(setsid sh -c 'echo $$; read -r line < "$0"' "$FIFO" &) ; exit 3`

func TestTheSessionIsOpenUntilItsLastProcessHasEnded(t *testing.T) {
	dir := stack(t, logged("")...)
	wait := filepath.Join(dir, "wait")
	fifo(t, wait)
	s := command(t, dir, "root", shell("FIFO="+wait+"; "+daemon))
	s.opened()
	left := pidfd(t, s.line())
	if got := convtest.Describe(s.peer.Next()); got != "exited 3" {
		t.Errorf("the worker said %q", got)
	}
	s.peer.Answer(7, "x") // is replied to, with nothing before
	if got := convtest.Describe(s.peer.Next()); got != "taken 7 NoSuchPrompt" {
		t.Errorf("the worker said %q", got)
	}
	if ended(t, left) {
		t.Error("the process that was left has ended")
	}
	if got := lines(t, filepath.Join(dir, "log")); got[len(got)-1] != "open" {
		t.Errorf("the module saw %q", got)
	}
	write(t, wait, "\n")
	s.ends("closed 0 the command ended with status 3")
}

// What modules leave behind are daemons of their own.
func TestProcessesOfModulesAreNotTheSessions(t *testing.T) {
	dir := stack(t, "session required {probe} open:fork")
	s := command(t, dir, "root", shell("echo $$; read -r line"))
	s.opened()
	leader, left := s.line(), 0
	for _, pid := range children(s.process.Pid) {
		if strconv.Itoa(pid) == leader {
			continue
		}
		left++
		fd := pidfd(t, strconv.Itoa(pid))
		t.Cleanup(func() { _ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
	}
	if left != 1 {
		t.Errorf("the module has left %d processes", left)
	}
	_ = s.in.Close()
	s.ends("exited 1", "closed 0 the command ended with status 1")
}

func TestCloseEndsTheProcesses(t *testing.T) {
	const quick, slow = 5_000_000, 100_000
	for _, test := range []struct {
		name    string
		timeout uint64
		script  string // prints one line when it is ready
		said    []string
	}{
		{"the command hangs up", quick, "echo $$; exec sleep 1000", []string{"exited 0 1"}},
		{"the command does as it is told", quick, "trap 'exit 7' HUP; echo $$; while :; do read -r line; done", []string{"exited 7"}},
		{"a command that is stopped", quick, "echo $$; kill -STOP $$; exit 1", []string{"exited 0 1"}},
		{"a process in the background", quick, "sleep 1000 & echo $!; while :; do wait; done", []string{"exited 0 1"}},
		{"a command that ignores it", slow, "trap '' HUP; echo $$; exec sleep 1000", []string{"exited 0 9"}},
		{"a daemon that ignores it", slow, "trap '' HUP; (setsid sh -c 'echo $$; exec sleep 1000' &); exit 0", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, logged("")...)
			s := command(t, dir, "root", shell(test.script), func(s *worker.Start) { s.CloseTimeoutUsec = test.timeout })
			s.opened()
			process := pidfd(t, s.line())
			if test.said == nil { // the command has ended before
				if got := convtest.Describe(s.peer.Next()); got != "exited 0" {
					t.Errorf("the worker said %q", got)
				}
			}
			s.peer.Close()
			s.ends(append(test.said, "closed 0")...)
			if !ended(t, process) {
				t.Error("it still runs")
			}
			if got := lines(t, filepath.Join(dir, "log")); got[len(got)-1] != "end 0" {
				t.Errorf("the module saw %q", got)
			}
		})
	}
}

// runStopped starts a shell that waits for SIGHUP and stops itself, and says so
// when it has: its parent alone is told.
func runStopped([]string) {
	cmd := exec.Command("/bin/sh", "-c", "trap 'echo hung up; exit' HUP; kill -STOP $$; while :; do read -r line; done")
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	var status unix.WaitStatus
	_, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil)
	fmt.Println("stopped", status.Stopped(), err)
	select {}
}

// SIGHUP does not reach a stopped process before it goes on.
func TestAStoppedProcessHangsUpOnClose(t *testing.T) {
	s := command(t, stack(t), "root", &worker.Command{Arguments: []string{"/proc/self/exe", "--stopped"}})
	s.opened()
	if got := s.line(); got != "stopped true <nil>" {
		t.Errorf("the command said %q", got)
	}
	s.peer.Close()
	if got := s.output(); got != "hung up\n" { // and not killed after five seconds
		t.Errorf("the process said %q in the end", got)
	}
	s.ends("exited 0 1", "closed 0")
}

// PAM has its whole time after the processes had theirs.
func TestAModuleThatNeverReturnsAfterTheCommand(t *testing.T) {
	for _, test := range []struct {
		name  string
		close bool
	}{{"that ended by itself", false}, {"that Close has ended", true}} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, "session required {probe} close:hang")
			s := command(t, dir, "root", shell("trap '' HUP; echo; read -r line"), func(s *worker.Start) { s.CloseTimeoutUsec = 50_000 })
			s.opened()
			s.line()
			exited := "exited 1"
			if test.close {
				s.peer.Close()
				exited = "exited 0 9"
			} else {
				_ = s.in.Close()
			}
			s.ends(exited, "failed WorkerFailed 4 a module did not return within 50ms of Close in phase close-session; PAM was not closed")
		})
	}
}

func TestABrokerThatComesBackHearsOfTheCommand(t *testing.T) {
	s := command(t, stack(t), "root", shell("echo; read -r line"))
	pid := s.opened()
	s.line()
	s.peer.Leave()
	s.peer = s.broker.Accept()
	session := s.peer.Hello.GetSession()
	if got := int(session.GetOpened().GetPid()); got != pid || session.GetExited() != nil || len(session.GetStart().GetCommand().GetArguments()) != 3 {
		t.Errorf("it hears of process %d, not %d, %v", got, pid, session.GetExited())
	}
	s.endsUnseen()
}

// endsUnseen has the command end while the broker is away.
func (s *commanded) endsUnseen() {
	t := s.t
	t.Helper()
	s.broker.Leave()
	s.peer.Leave()
	process := pidfd(t, strconv.Itoa(s.process.Pid))
	_ = s.in.Close()
	if ended(t, process) {
		t.Error("the worker has ended without a broker that it could tell")
	}
	s.broker.Return()
	s.peer = s.broker.Accept()
	// Some of it may come on the wire.
	said := convtest.DescribeSession(s.peer.Hello.GetSession())
	if !strings.Contains(said, "closed") {
		said += ", " + strings.Join(s.rest(), ", ")
	}
	if !strings.Contains(said, "exited 1") || !strings.HasSuffix(said, "closed 0 the command ended with status 1") {
		t.Errorf("the worker said %q", said)
	}
	s.process.Wait()
}

// The worker's death is the end of its session.
func TestTheCommandHangsUpWithItsWorker(t *testing.T) {
	s := command(t, stack(t), "root", shell("trap 'echo hung up; exit' HUP; echo; while :; do read -r line; done"))
	s.opened()
	s.line()
	s.process.Signal(unix.SIGKILL)
	if got := s.line(); got != "hung up" {
		t.Errorf("the command said %q", got)
	}
	s.process.Wait()
}
