// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/conv/convtest"
)

// TestAnIdleWorkerSweeps what a killed one left, and leaves what belongs to one
// that lives, or to others.
func TestAnIdleWorkerSweeps(t *testing.T) {
	h := newHome(t)
	killed, peer := asked(t, askSecret)
	peer.Mirror(0, true)
	left := h.posted()
	killed.Signal(unix.SIGKILL)
	killed.Wait()
	foreign := filepath.Join(h.agents, "ask.pamprompt-0000000000000000")
	write(t, foreign, "root's")
	_, sweeper, idle := run(t, stack(t))
	idle.Sweep(nobody)
	sweeper.Says("was swept")
	if found, _ := filepath.Glob(h.agents + "/*.pamprompt-*"); !slices.Equal(found, []string{foreign}) {
		t.Errorf("beside %s there is %q", left, found)
	}
	wantSaid(t, convtest.Play(idle, convtest.Start("test", "root")), everyPhase...)
	sweeper.Wait()
}

func TestASweepMakesNothing(t *testing.T) {
	h := newHome(t)
	_, process, idle := run(t, stack(t))
	idle.Sweep(0) // has no directory of its own
	idle.Sweep(nobody)
	process.Says("was swept")
	wantSaid(t, convtest.Play(idle, convtest.Start("test", "root")), everyPhase...)
	process.Wait()
	if got := tree(t, h.dir); len(got) > 0 {
		t.Errorf("there is %q", got)
	}
}

func TestASweepForAWorkerWithASessionEndsTheConnection(t *testing.T) {
	broker, _, peer := asking(t, stack(t, asks))
	peer.Sweep(nobody)
	if said := convtest.Continue(peer); len(said) > 0 {
		t.Errorf("the worker said %q", said)
	}
	peer = broker.Accept()
	peer.Answer(0, "x")
	peer.Expect("taken 0", "entering account")
}
