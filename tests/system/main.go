// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/goleak"
)

// M is *testing.M, or what wraps it.
type M interface{ Run() int }

// Main runs the tests of a package, looks for goroutines that they left, and
// removes the programs that Build made. It returns the exit code. A test binary
// that Join has started connects to a bus instead.
func Main(m M) int {
	if os.Args[0] == connector {
		return runConnector(os.Args[1:])
	}
	defer removeBuild()
	// What the race detector is in sleeps for a second when it ends.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	heedSignals()
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/pamprompt/pamprompt/tests/system.serveThread")); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines were left: %v\n", err)
		return 1
	}
	return 0
}

// heedSignals is for tests under nohup, or in the background of a script: what is
// ignored stays ignored in all programs that are started, and tests send them signals.
// What is caught is not.
func heedSignals() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// Wrapped makes Main usable where an M is asked for: testscript.Main.
func Wrapped(m M) M { return wrapped{m} }

type wrapped struct{ m M }

func (w wrapped) Run() int { return Main(w.m) }
