// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// RLIMIT_MEMLOCK is used up in a worker that has no right to lock more (CAP_IPC_LOCK), as
// when a module has taken on the user's identity. The answer is not taken, and not put into
// other memory either; the prompt waits, and is answered when there is room.
func TestNoMemoryToLockForAnAnswer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a worker without CAP_IPC_LOCK")
	}
	t.Parallel()
	worker := filepath.Join(t.TempDir(), "worker")
	script := "#!/bin/sh\nexec setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock " + system.Build(t).Worker + " \"$@\"\n"
	if err := os.WriteFile(worker, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	b := start(t, map[string]string{}, "--worker", worker)
	victim := b.agent(false)
	s := victim.open("ask", api.Options{Agent: true})
	p, pid := victim.prompt(s), victim.leader(s)
	lift := lockNoMore(t, pid)
	const answer = "nineteen-green-herons"
	for range 3 {
		if err := victim.give(p.ID, answer); !errors.Is(err, api.LimitExceeded) || !strings.Contains(err.Error(), "RLIMIT_MEMLOCK") {
			t.Errorf("an answer for which no memory can be locked: %v", err)
		}
	}
	if n := inMemory(t, pid, answer); n != 0 {
		t.Errorf("the worker has %d copies of an answer that it did not take", n)
	}
	b.said(s, "an answer is not taken", "RLIMIT_MEMLOCK")
	lift()
	victim.reply(p.ID, answer)
	victim.wait(s, api.StateOpen)
	if p := victim.properties(s); len(p.Environment) != 1 || p.Environment[0] != "ANSWER="+answer {
		t.Errorf("the module got %q", p.Environment)
	}
	if inMemory(t, pid, answer) == 0 {
		t.Error("an answer in the environment of PAM is not found in the memory of the worker")
	}
	victim.leave()
	b.unharmed()
}

// lockNoMore lets a process lock no memory more than it has. The function lifts that.
func lockNoMore(t testing.TB, pid int) (lift func()) {
	t.Helper()
	set := func(new, old *unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(pid, unix.RLIMIT_MEMLOCK, new, old); err != nil {
			t.Fatal(err)
		}
	}
	var was unix.Rlimit
	set(nil, &was)
	set(&unix.Rlimit{Cur: 1, Max: was.Max}, nil)
	return func() { set(&was, nil) }
}

// inMemory counts how often a text is in the memory of a process.
func inMemory(t testing.TB, pid int, text string) (n int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = memory.Close() }()
	looked := 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var access string
		if k, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &access); k != 3 || !strings.HasPrefix(access, "rw") {
			continue
		}
		content, _ := io.ReadAll(io.NewSectionReader(memory, from, to-from)) // up to what was never touched
		n += bytes.Count(content, []byte(text))
		looked += len(content)
	}
	if looked < 1<<20 {
		t.Fatalf("no more than %d bytes of the memory of process %d can be read", looked, pid)
	}
	return n
}

// A module lets its process have no more address space than it has, and asks. The answer is
// not taken, the session can be closed, and nobody else feels it.
func TestAWorkerMayHaveNoMoreAddressSpace(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"small": stack(t, "fault auth:limit=memory,1000000", asking)}, "--close-timeout=2s")
	victim := b.agent(false)
	s := victim.open("small", api.Options{Agent: true})
	p := victim.prompt(s)
	if err := victim.give(p.ID, "x"); !errors.Is(err, api.LimitExceeded) {
		t.Errorf("an answer for which there is no memory: %v", err)
	}
	b.said(s, "an answer is not taken", "cannot allocate memory")
	victim.close(s)
	victim.leave()
	b.unharmed()
}
