// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"time"
)

// A broker waits for packets of thousands of workers, each of which may be large.
func TestAConnectionThatWaitsHoldsNoBuffer(t *testing.T) {
	const many = 50
	before := waiting() // of other goroutines
	var done sync.WaitGroup
	defer done.Wait() // after all are closed
	for range many {
		broker, worker := pair(t)
		done.Go(func() { _, _ = broker.Receive(new(ToBroker)) })
		defer func() { _ = worker.Close() }()
	}
	for late := time.Now().Add(20 * time.Second); waiting() < before+many; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatalf("%d goroutines wait, not %d", waiting()-before, many)
		}
	}
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > many*MaxPacket/4 {
		t.Errorf("%d connections hold %d KiB", many, m.HeapAlloc>>10)
	}
}

// waiting is how many goroutines wait for a descriptor.
func waiting() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("[IO wait"))
}
