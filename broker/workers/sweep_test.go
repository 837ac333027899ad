// SPDX-License-Identifier: Apache-2.0

package workers

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api/worker"
)

func TestAnIdleWorkerIsToldToSweep(t *testing.T) {
	p, path := serve(t)
	_ = idleWorker(t, p, path).Close() // is not the one
	c := idleWorker(t, p, path)
	if err := p.Sweep(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if m := new(worker.ToWorker); mustReceive(t, c, m) && m.GetSweep().GetUid() != 1000 {
		t.Errorf("the worker was told %T", m.GetMessage())
	}
	if n := p.Idle(); n != 1 {
		t.Errorf("%d workers are idle, not the one", n)
	}
}

func TestASweepThatCannotBe(t *testing.T) {
	p, _ := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if err := p.Sweep(ctx, 1000); !errors.Is(err, ErrNoWorker) {
		t.Errorf("without a worker: %v", err)
	}
	if err := p.Sweep(t.Context(), math.MaxUint32); !errors.Is(err, worker.ErrMalformed) {
		t.Errorf("for the uid that is none: %v", err)
	}
}
