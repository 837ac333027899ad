// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// asks is a stack that opens with the secret, and does not have it.
func asks(t testing.TB, k known) string {
	return "auth requisite " + modules.Probe(t) + " [auth:ask=secret,Password: ] auth:fnv1a=" + k.checksum() + "\n" +
		"account required pam_permit.so\npassword required pam_permit.so\nsession required pam_permit.so\n"
}

// bench is a system that logs all it can.
type bench struct {
	*system.OnBus
	t      *testing.T
	client *api.Client
	events <-chan api.Event // of an agent that the test itself is; nil without
	keeps  string           // why workers may have what they should not; empty if they may not
}

func start(t *testing.T, stacks map[string]string, args ...string) *bench {
	t.Helper()
	needRoot(t)
	return onStage(t, system.StartOnBus(t, options(t, stacks, args...)))
}

// options have workers log all they can, too. They have their level from the
// pool, and that from who starts it.
func options(t *testing.T, stacks map[string]string, args ...string) system.Options {
	t.Helper()
	pool := filepath.Join(t.TempDir(), "pool")
	if err := os.WriteFile(pool, []byte("#!/bin/sh\nexec "+system.Build(t).Worker+" \"$@\" --log-level debug\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return system.Options{Stacks: stacks, BrokerArgs: append([]string{"--log-level", "debug", "--worker", pool}, args...)}
}

func onStage(t *testing.T, s *system.OnBus) *bench {
	t.Helper()
	return &bench{OnBus: s, t: t, client: s.Client(t)}
}

// listen makes the test an agent.
func (b *bench) listen() {
	b.t.Helper()
	w, err := b.client.Watch(within(b.t), api.WatchOptions{Agent: true})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(w.Close)
	b.events = w.Events()
}

func (b *bench) open(service, user string) *api.Session {
	b.t.Helper()
	s, err := b.client.Open(within(b.t), service, user, api.Options{Attempts: 3})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// next waits for the next event of a kind.
func next[E api.Event](b *bench) E {
	b.t.Helper()
	ctx := within(b.t)
	for {
		select {
		case event, ok := <-b.events:
			if !ok {
				b.t.Fatal("the watcher has ended")
			}
			if e, ok := event.(E); ok {
				return e
			}
		case <-ctx.Done():
			var e E
			b.t.Fatalf("no %T has come", e)
		}
	}
}

func (b *bench) answer(prompt uint64, text string) error {
	b.t.Helper()
	answer, err := secret.Read(strings.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Wipe()
	return b.client.Answer(within(b.t), prompt, answer)
}

func (b *bench) wantOpen(s *api.Session) {
	b.t.Helper()
	if err := s.Wait(within(b.t), api.StateOpen); err != nil {
		b.t.Fatalf("%v\n%s", err, b.Log())
	}
}

// processes are all that took part, by what they are. The workers are those
// that have a session and those that wait for one.
func (b *bench) processes() map[string]int {
	b.t.Helper()
	conn := b.Conn(b.t)
	pid := func(name string) int {
		var pid uint32
		if err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, name).Store(&pid); err != nil {
			b.t.Fatal(err)
		}
		return int(pid)
	}
	found := map[string]int{"bus": pid("org.freedesktop.DBus"), "broker": pid(api.BusName)}
	if found["bus"] == os.Getpid() { // to dbus-broker, its controller is the bus
		delete(found, "bus")
		for _, child := range children(b.t, os.Getpid()) {
			if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(comm) == "dbus-broker\n" {
				found["bus"] = child
			}
		}
	}
	for _, pool := range children(b.t, found["broker"]) {
		found["pool"] = pool
		for i, worker := range children(b.t, pool) {
			found[fmt.Sprintf("worker %d", i)] = worker
		}
	}
	if len(found) < 4 {
		b.t.Fatalf("there are only these processes: %v", found)
	}
	return found
}

// children are the processes that one has started, of all its threads.
func children(t testing.TB, pid int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		t.Fatalf("process %d has ended, or the kernel does not list children", pid)
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for number := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

// wantNowhere scans all processes, and the given ones too.
func (b *bench) wantNowhere(k known, more map[string]int) {
	b.t.Helper()
	processes := b.processes()
	for name, pid := range more {
		processes[name] = pid
	}
	for name, pid := range processes {
		for _, h := range scan(b.t, pid, k) {
			if strings.HasPrefix(name, "worker") && b.keeps != "" {
				b.t.Logf("the %s has %v, since of the module %s", name, h, b.keeps)
				continue
			}
			b.t.Errorf("the %s (%d) has %v", name, pid, h)
		}
		b.wantNoCore(name, pid)
	}
	k.wantNotIn(b.t, "the log", b.Log())
}

// wantNoCore checks that a process has forbidden core files.
func (b *bench) wantNoCore(name string, pid int) {
	b.t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && name != "bus" && name != "pool" {
			if fields := strings.Fields(rest); fields[0] != "0" || fields[1] != "0" {
				b.t.Errorf("the %s may write core files: %s", name, line)
			}
		}
	}
}

// answerAsText is what scripts do: the secret is in a message of the bus.
func (b *bench) answerAsText(prompt uint64, text string) error {
	return b.Conn(b.t).Object(api.BusName, dbus.ObjectPath(api.RootPath)).
		Call(api.ManagerInterface+".AnswerPrompt", 0, prompt, text).Err
}
