// SPDX-License-Identifier: Apache-2.0

// Package faults is what goes wrong with processes: workers, their pool, agents,
// callers and modules that die, stop, or do to themselves and others what they
// should not. In every test two sessions of somebody else, the bystanders, are
// there: one is open, one waits for its answer. After the fault both must still be
// what they were, the broker must have the descriptors and match rules that it had,
// and its log must have said once what happened. What is left of processes
// tests/system sees.
//
//	main_test.go         the bench: bystanders, and what must be as before
//	agent_test.go        an agent of the test's own
//	worker_test.go       workers and the pool that are killed
//	stopped_test.go      workers and the pool that are stopped
//	fork_test.go         no room for processes and threads
//	descriptors_test.go  no descriptor left
//	memory_test.go       no memory for an answer
//	cgroup_test.go       a cgroup that is full
//	dialog_test.go       agents at a terminal
//	answerer_test.go     who is killed with an answer under way
//	caller_test.go       who opens sessions, or asks
//	module_test.go       modules that do to their process what they should not
//	flood_test.go        modules that talk and ask without end
package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) {
	if os.Getenv(answererEnv) != "" {
		if err := runAnswerer(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(system.Main(m))
}

// patience bounds what must happen; nothing waits for it to pass.
const patience = 60 * time.Second

func within(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

// bench is a running system with its bystanders.
type bench struct {
	*system.System
	t        testing.TB
	conn     *dbus.Conn // of the test, as root
	requests string     // the directory of ask-password files
	log      string     // what pam_probe writes down
	idle     bool       // whether the pool refills itself at the end

	somebody *agent // the owner of the bystanders
	open     *api.Session
	waiting  *api.Session
	past     int // sessions of somebody's that have ended: they are listed as long as their owner is there

	descriptors, rules int
	kinds              map[string]int // of those descriptors
}

// stack makes the four groups of a service out of lines "probe ARGUMENTS" and
// "fault ARGUMENTS".
func stack(t testing.TB, lines ...string) string {
	t.Helper()
	var b strings.Builder
	for _, group := range []string{"auth", "account", "password", "session"} {
		for _, line := range lines {
			module, arguments, _ := strings.Cut(line, " ")
			path := map[string]func(testing.TB) string{"probe": modules.Probe, "fault": modules.Fault}[module](t)
			fmt.Fprintf(&b, "%s required %s %s\n", group, path, arguments)
		}
	}
	return b.String()
}

// asking has a question in the phase authenticate, and its answer in the environment.
const asking = "probe [auth:ask=secret,Password: ] auth:export=ANSWER"

// start runs a system with these stacks beside "permit", which asks nothing, and
// "ask", and puts the bystanders there.
func start(t testing.TB, stacks map[string]string, args ...string) *bench {
	t.Helper()
	b := prepare(t, stacks)
	b.System = system.Start(t, system.Options{Stacks: stacks, BrokerArgs: b.args(args)})
	b.settle()
	return b
}

func prepare(t testing.TB, stacks map[string]string) *bench {
	t.Helper()
	stacks["permit"], stacks["ask"] = system.Permit(), stack(t, asking)
	b := &bench{t: t, requests: t.TempDir(), log: filepath.Join(t.TempDir(), "log"), idle: true}
	for name := range stacks {
		stacks[name] = strings.ReplaceAll(stacks[name], "LOG", b.log)
	}
	return b
}

func (b *bench) args(more []string) []string {
	return append([]string{"--ask-password=" + b.requests}, more...)
}

// settle puts the bystanders there, and notes what there is before the fault.
func (b *bench) settle() {
	b.t.Helper()
	b.conn = b.Conn(b.t)
	b.somebody = b.agent(false)
	b.open = b.somebody.open("permit", api.Options{})
	b.somebody.wait(b.open, api.StateOpen)
	b.waiting = b.somebody.open("ask", api.Options{Agent: true})
	b.somebody.prompt(b.waiting)
	system.AwaitFiles(b.t, b.requests, func() bool { return b.files() == 1 })
	b.refilled()
	b.descriptors, b.rules, b.kinds = b.countDescriptors(), b.countRules(), b.kindsOfDescriptors()
}

// broker is the pid of the broker.
func (b *bench) broker() int {
	b.t.Helper()
	var pid uint32
	if err := b.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName).Store(&pid); err != nil {
		b.t.Fatal(err)
	}
	return int(pid)
}

func (b *bench) countDescriptors() int {
	b.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.broker()))
	if err != nil {
		b.t.Fatal(err)
	}
	return len(entries)
}

// kindsOfDescriptors says what they are, for when there are too many.
func (b *bench) kindsOfDescriptors() map[string]int {
	kinds := map[string]int{}
	entries, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.broker()))
	for _, entry := range entries {
		to, _ := os.Readlink(entry)
		kind, _, _ := strings.Cut(to, ":[") // "socket:[4711]"
		kinds[kind]++
	}
	return kinds
}

// countRules counts the match rules that the broker has at the bus.
func (b *bench) countRules() int {
	b.t.Helper()
	var all map[string][]string
	if err := b.conn.BusObject().Call("org.freedesktop.DBus.Debug.Stats.GetAllMatchRules", 0).Store(&all); err != nil {
		b.t.Fatal(err)
	}
	var owner string
	if err := b.conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, api.BusName).Store(&owner); err != nil {
		b.t.Fatal(err)
	}
	return len(all[owner])
}

func (b *bench) files() int {
	found, _ := filepath.Glob(filepath.Join(b.requests, "*"))
	return len(found) / 2 // a file and a socket each
}

// children are the processes that a process has started and that have not ended.
func children(pid int) []int {
	var all []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			if state, _ := status(child); state != "Z" {
				all = append(all, child)
			}
		}
	}
	return all
}

// status is the state of a process, "Z" for one that nobody has waited for, and
// its name; empty when there is none.
func status(pid int) (state, name string) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	head, tail, _ := strings.Cut(string(text), ") ")
	_, name, _ = strings.Cut(head, " (")
	state, _, _ = strings.Cut(tail, " ")
	return state, name
}

// pool is the pid of the pool that the broker has started.
func (b *bench) pool() int {
	b.t.Helper()
	for _, pid := range children(b.broker()) {
		if _, name := status(pid); strings.HasPrefix(name, "pamprompt-work") {
			return pid
		}
	}
	b.t.Fatal("the broker has no pool")
	return 0
}

// workers are the workers that run, the one of the youngest start last.
func (b *bench) workers() []int { return children(b.pool()) }

// until looks again and again, each time after the broker has answered a call,
// until it is as wanted.
func (b *bench) until(what string, wanted func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !wanted(); {
		if time.Now().After(deadline) {
			b.t.Fatalf("after %v it is not so: %s", patience, what)
		}
		if err := b.conn.Object(api.BusName, api.RootPath).Call("org.freedesktop.DBus.Peer.Ping", 0).Err; err != nil {
			b.t.Fatal(err)
		}
	}
}

// refilled waits until the pool has its idle workers again, all of them connected.
func (b *bench) refilled() {
	b.t.Helper()
	if b.idle {
		b.until("two idle workers are connected", func() bool {
			return b.pinned() == len(b.workers())+len(children(b.broker())) && len(b.workers()) >= 2+b.sessions()
		})
	}
}

// pinned counts the processes that the broker holds by a pidfd: its own children and
// every worker that is connected.
func (b *bench) pinned() int {
	entries, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.broker()))
	n := 0
	for _, entry := range entries {
		if to, _ := os.Readlink(entry); to == "anon_inode:[pidfd]" {
			n++
		}
	}
	return n
}

// sessions counts those that have a worker.
func (b *bench) sessions() int {
	b.t.Helper()
	n := 0
	for _, s := range b.list() {
		if s.State == api.StateOpening || s.State == api.StateOpen || s.State == api.StateClosing {
			n++
		}
	}
	return n
}

func (b *bench) list() []api.SessionInfo {
	b.t.Helper()
	list, err := b.somebody.Sessions(within(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// unharmed is what must be after each fault, when all who were part of it have
// left the bus: the bystanders, descriptors, match rules, files and sessions.
func (b *bench) unharmed() {
	b.t.Helper()
	b.until("only the bystanders are left", func() bool { return len(b.list()) == 2+b.past })
	b.until("their file is left", func() bool { return b.files() == 1 })
	b.refilled()
	got := 0
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the broker had %d descriptors and has %d: %v and %v, for workers %v", b.descriptors, got, b.kinds, b.kindsOfDescriptors(), b.workers())
		}
	}()
	b.until("the broker has as many descriptors as before", func() bool { got = b.countDescriptors(); return got == b.descriptors })
	if got := b.countRules(); got != b.rules {
		b.t.Errorf("the broker had %d match rules and has %d", b.rules, got)
	}
	if p := b.somebody.properties(b.open); p.State != api.StateOpen {
		b.t.Errorf("the open bystander is %s: %s", p.State, p.ResultText)
	}
	b.somebody.reply(b.somebody.held[b.waiting.ID()], "by and by")
	b.somebody.wait(b.waiting, api.StateOpen)
	again := b.somebody.open("permit", api.Options{})
	b.somebody.wait(again, api.StateOpen)
	for _, s := range []*api.Session{again, b.waiting, b.open} {
		b.somebody.close(s)
	}
}

// complaint is a line of the log that somebody ought to read.
var complaint = regexp.MustCompile(`(?m)^time=\S+ level=(WARN|ERROR) .*$`)

// said checks that what the programs complained of about a session is one line, with
// these words. How the processes of workers ended the pool tells in lines of its own.
func (b *bench) said(s *api.Session, words ...string) {
	b.t.Helper()
	lines := b.complaints(fmt.Sprintf("session=%d ", s.ID()))
	if len(lines) != 1 {
		b.t.Errorf("%d lines of the log complain of session %d, not one:\n%s", len(lines), s.ID(), strings.Join(lines, "\n"))
		return
	}
	for _, word := range words {
		if !strings.Contains(lines[0], word) {
			b.t.Errorf("the log does not say %q: %s", word, lines[0])
		}
	}
	b.clean()
}

// complaints are the lines that complain about something.
func (b *bench) complaints(about string) (lines []string) {
	for _, line := range complaint.FindAllString(b.Log(), -1) {
		// A caller that is killed may have a call under way.
		left := strings.Contains(line, `msg="caller refused"`) && strings.Contains(line, "no such name")
		if !left && !epitaph.MatchString(line) && strings.Contains(line, about) {
			lines = append(lines, line)
		}
	}
	return lines
}

// epitaph is what the pool says of a worker that has ended.
var epitaph = regexp.MustCompile(`msg="worker \d+ (\(session \d+\) )?(was killed by SIG|ended with status )`)

// buried checks that the pool has said once how the worker of a session has ended.
func (b *bench) buried(s *api.Session, how string) {
	b.t.Helper()
	words := fmt.Sprintf("(session %d) %s", s.ID(), how)
	b.AwaitLog(b.t, func(log string) bool { return strings.Contains(log, words) })
	if n := strings.Count(b.Log(), words); n != 1 {
		b.t.Errorf("%d lines of the log say %q", n, words)
	}
}

// clean checks that the log has nothing but lines of the log: no report of a
// runtime, and nothing that a module has written.
func (b *bench) clean() {
	b.t.Helper()
	for line := range strings.Lines(b.Log()) {
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "dbus-daemon[") {
			b.t.Errorf("the log has a line that is none:\n%s", b.Log())
			return
		}
	}
}

// saw is what make test prints of a test.
func saw(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Attr("saw", strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
}
