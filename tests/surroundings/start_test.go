// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// The pool can start no worker, here because the program has another name: what the
// kernel says to a fork for want of memory or of processes takes the same way.
func TestNoWorkerCanBeStarted(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pamprompt-worker")
	if err := os.Link(system.Build(t).Worker, program); err != nil {
		t.Fatal(err)
	}
	b := on(t, system.StartOnBus(t, system.Options{Stacks: stacks(t), BrokerArgs: []string{"--worker", program}}))
	goesOn, journal := b.bystander(), b.journal()
	if err := os.Rename(program, program+".away"); err != nil {
		t.Fatal(err)
	}
	idle := max(2, runtime.NumCPU()) // as many as the pool keeps
	for range idle {                 // each that is taken is one that cannot be replaced
		b.wait(b.open(b.here, "permit", api.Options{}), api.StateOpen)
	}
	b.AwaitLog(t, func(string) bool { return strings.Contains(journal.text(), "workers cannot be started") })
	began, waits := time.Now(), make(chan error, 1)
	go func() {
		_, err := b.here.Open(within(t), "permit", "root", api.Options{})
		waits <- err
	}()
	if err := os.Rename(program+".away", program); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("who waited for a worker was told %v", err)
	}
	took := time.Since(began)
	b.AwaitLog(t, func(string) bool { return strings.Contains(journal.text(), "workers can be started again") })
	goesOn()
	journal.says("workers cannot be started")
	saw(t, "no worker could be started: %d sessions more were opened, the next one waited; it was there %v after workers could be started again",
		idle, took.Round(time.Millisecond))
}
