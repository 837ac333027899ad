// SPDX-License-Identifier: Apache-2.0

// Package memory looks for a secret where it must not be: in the memory of
// every process that took part after a session has opened with it, in logs and
// in what programs print. The programs are the real ones, as they are built for
// users. It holds nothing but tests.
//
// It sees what a process maps: not registers, nor what the kernel holds for it,
// such as a memfd, a pipe or the buffer of a terminal, which is gone with the
// last descriptor or the next line.
//
//	main_test.go      what stands around all tests
//	scan_test.go      looks through a process
//	forms_test.go     a secret, and what a copy of it may look like
//	planted_test.go   a copy that is there is found
//	bench_test.go     a system, its processes, and somebody who answers
//	terminal_test.go  somebody at a terminal
//	sessions_test.go  sessions that open by each way that an answer may take
//	unix_test.go      the same with modules of the system
//	logs_test.go      logs, errors, panics and output
package memory

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(plant); path != "" {
		if err := hold(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// So that what is started forbids core files itself.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	os.Exit(system.Main(m))
}

// patience bounds what must happen; nothing waits for it to pass.
const patience = 30 * time.Second

// within is a context that ends a test that hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root: the memory of processes that are not dumpable")
	}
}
