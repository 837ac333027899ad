// SPDX-License-Identifier: Apache-2.0

package workers

import (
	"context"
	"fmt"

	"github.com/pamprompt/pamprompt/api/worker"
)

// Sweep has an idle worker remove what a worker that died left in a user's own
// ask-password directory, which the broker cannot enter. It returns when the
// worker has been told, and fails with ErrNoWorker when none is idle before the
// context ends.
func (p *Pool) Sweep(ctx context.Context, uid uint32) error {
	order := &worker.ToWorker{Message: &worker.ToWorker_Sweep{Sweep: &worker.Sweep{Uid: uid}}}
	if err := worker.Check(order); err != nil {
		return fmt.Errorf("sweep a user's directory: %w", err)
	}
	for {
		w, err := p.Acquire(ctx)
		if err != nil {
			return err
		}
		if w.Send(order) == nil {
			p.Return(w)
			return nil
		}
		w.Close() // it ended while it was idle
	}
}
