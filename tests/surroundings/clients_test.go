// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pids"
	"github.com/pamprompt/pamprompt/tests/system"
)

// unreachable is the client's exit code when the bus ends.
const unreachable = 3

// The programs of people and scripts, when the bus ends under them: agent and watch
// come back with it, the others end at once and say what becomes of their sessions.
func TestProgramsThroughARestartOfTheBus(t *testing.T) {
	ends := map[string]syscall.Signal{"dbus-daemon": unix.SIGTERM, "dbus-broker": unix.SIGKILL}
	for _, bus := range buses {
		t.Run(fmt.Sprintf("%s, %s", bus.name, unix.SignalName(ends[bus.name])), func(t *testing.T) {
			b := on(t, bus.start(t, system.Options{Stacks: stacks(t)}))
			goesOn, journal := b.bystander(), b.journal()
			p, w := people(b), b.reader()
			pids.Stop(t, w.cmd.Process.Pid) // which so will miss more than the others
			b.EndBus(t, ends[bus.name])
			then := time.Now()
			p.leave()
			left := time.Since(then)
			b.EndedWith(t)
			journal.says("the connection to the bus was lost")
			p.agent.Press("typed while there is no bus\r")
			b.RestartBus(t)
			b.Restart(t)
			b.come()
			p.agent.See("connected to the bus again")
			back := time.Since(then)
			next(b, func(q api.Prompt) bool { return q.Session == p.lingers })
			w.missed(b, p.lingers)
			for range 2 { // in the order in which their workers came
				session := p.agent.number(", session %: ")
				p.agent.See("Password: ")
				if session == p.lingers {
					p.agent.Press(answer + "\r")
					continue
				}
				goesOn()
				p.agent.See("is gone: answered")
			}
			lingers := b.here.Session(p.lingers)
			b.wait(lingers, api.StateOpen)
			b.close(lingers)
			p.gone(journal)
			p.agent.Press("\x04")
			p.agent.exits(0)
			p.agent.never("typed")
			p.agent.never(answer)
			w.ends(t)
			saw(t, "the bus ended by %s: open, open --linger, run and run --pipe had ended with %d after %v; agent and watch were back after %v, "+
				"and the agent was asked again by the same numbers", unix.SignalName(ends[bus.name]), unreachable, left.Round(time.Millisecond), back.Round(time.Millisecond))
		})
	}
}

// crowd is one of each program.
type crowd struct {
	b                              *bench
	agent, open, linger, run, pipe *person
	bound                          []uint64 // sessions that end with the bus
	lingers                        uint64
	commands                       []int // descriptors of processes
	out                            *bufio.Reader
	in                             *os.File
}

// people start them, in the order in which they need each other to be there.
func people(b *bench) *crowd {
	t := b.t
	t.Helper()
	c := &crowd{b: b, agent: b.at("agent"), open: b.at("open", "permit", "root"), run: b.at("run", "--service", "permit", "sh", "-c", "echo pid $$; exec sleep 1000")}
	c.agent.See("Password: ") // of the bystander
	c.linger = b.at("open", "--linger", "ask", "root")
	c.linger.See("Password: ")
	c.linger.Press("half")
	c.agent.Press("half")
	c.bound = append(c.bound, c.open.number("%\r\n"))
	c.commands = append(c.commands, pidfd(t, c.run.number("pid %\r\n")))
	c.inPipes()
	return c
}

// inPipes is a run without a terminal for its command.
func (c *crowd) inPipes() {
	t := c.b.t
	t.Helper()
	theirs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	c.in, c.out = in, bufio.NewReader(out)
	c.pipe = c.b.between(theirs, theirOut, "run", "--service", "permit", "sh", "-c", "echo $$; exec cat")
	_, _ = theirs.Close(), theirOut.Close()
	line, err := c.out.ReadString('\n')
	pid, bad := strconv.ParseUint(strings.TrimSpace(line), 10, 32)
	if err != nil || bad != nil {
		t.Fatalf("the command says %q, %v", line, err)
	}
	c.commands = append(c.commands, pidfd(t, pid))
}

// pidfd is a process by a descriptor, which is closed at the end of the test.
func pidfd(t testing.TB, pid uint64) int {
	t.Helper()
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		t.Fatalf("look at process %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// leave is what those do who do not come back.
func (c *crowd) leave() {
	t := c.b.t
	t.Helper()
	const lost = "the connection to the bus was lost: session "
	c.open.See(fmt.Sprintf("%s%d is closed as soon as there is a broker again", lost, c.bound[0]))
	c.open.exits(unreachable)
	c.lingers = c.linger.number(lost + "% lingers and goes on")
	c.linger.See(fmt.Sprintf("`pamprompt-client show %d`", c.lingers))
	c.linger.exits(unreachable)
	c.linger.never("half")
	for _, run := range []*person{c.run, c.pipe} {
		c.bound = append(c.bound, run.number(lost+"% is closed, and its command ended, as soon as there is a broker again"))
		run.exits(unreachable)
	}
	c.over(c.commands[0]) // its terminal is gone
	if _, err := c.in.WriteString("while there is no bus\n"); err != nil {
		t.Error(err)
	}
	if said, err := c.out.ReadString('\n'); err != nil || said != "while there is no bus\n" {
		t.Errorf("the command in pipes says %q, %v", said, err)
	}
	c.agent.See("is gone: the ")
	c.agent.See("connecting again as soon as there is a bus")
	c.agent.never("half")
}

// gone sees that what was not to stay has ended in order.
func (c *crowd) gone(j journal) {
	c.b.t.Helper()
	for _, id := range []uint64{c.bound[0], c.bound[2]} {
		c.b.AwaitLog(c.b.t, func(string) bool { return ended(j.text(), id, `state=closed pam=0 why="its owner left the bus`) })
	}
	// This one ended with its command, perhaps so soon that it told the broker that was about to end.
	if err := c.b.here.Session(c.bound[1]).Wait(within(c.b.t), api.StateClosed); err != nil && !errors.Is(err, api.NoSuchSession) {
		c.b.t.Errorf("session %d, whose command was hung up on: %v", c.bound[1], err)
	}
	c.over(c.commands[1])
	if rest, err := io.ReadAll(c.out); err != nil || len(rest) > 0 {
		c.b.t.Errorf("the command in pipes ends with %q, %v", rest, err)
	}
}

// over waits for the end of a command.
func (c *crowd) over(fd int) {
	c.b.t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case n != 1 || err != nil:
			c.b.t.Errorf("a command of a session that was closed still runs: %v", err)
		}
		return
	}
}

// reader is a script that reads what watch writes.
type reader struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// reader returns when it watches.
func (b *bench) reader() *reader {
	b.t.Helper()
	r := &reader{cmd: exec.Command(b.Programs.Client, "watch", "--json", "--prompts")}
	r.cmd.Env = b.Environment()
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	})
	r.lines = bufio.NewScanner(out)
	r.until(b.t, `{"event":"prompt",`)
	return r
}

// until reads up to a line that begins so.
func (r *reader) until(t testing.TB, begins string) {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	for r.lines.Scan() {
		if strings.HasPrefix(r.lines.Text(), begins) {
			return
		}
	}
	t.Fatalf("watch has not written %s", begins)
}

// missed goes on when all is there again, and reads that something was missed, and a
// session of it.
func (r *reader) missed(b *bench, session uint64) {
	b.t.Helper()
	if err := r.cmd.Process.Signal(unix.SIGCONT); err != nil {
		b.t.Fatal(err)
	}
	r.until(b.t, `{"event":"bus-gone"}`)
	r.until(b.t, `{"event":"bus-back"}`)
	r.until(b.t, fmt.Sprintf(`{"event":"session","session":%d,"service":"ask","user":"root","owner-uid":%d,"state":"opening",`, session, os.Geteuid()))
	r.until(b.t, `{"event":"prompt",`)
}

// ends is Ctrl-C.
func (r *reader) ends(t testing.TB) {
	t.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for r.lines.Scan() {
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("watch: %v", err)
	}
}
