// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// MainWith is Main with a system that all tests and examples of the package
// share, on the bus that DBUS_SYSTEM_BUS_ADDRESS names meanwhile.
func MainWith(m M, options func(testing.TB) Options) int {
	return Main(shared{m, options})
}

type shared struct {
	m       M
	options func(testing.TB) Options
}

func (s shared) Run() (code int) {
	t := &outside{}
	defer func() {
		t.cleanup()
		if t.failed {
			code = 1
		}
	}()
	// In a goroutine, since Fatal ends one.
	started := make(chan *System, 1)
	go func() {
		defer close(started)
		started <- Start(t, s.options(t))
	}()
	running := <-started
	if running == nil {
		return 1
	}
	if err := os.Setenv("DBUS_SYSTEM_BUS_ADDRESS", running.Address); err != nil {
		t.Error(err)
		return 1
	}
	return s.m.Run()
}

// outside stands for a test outside of one: as much as Start needs.
type outside struct {
	testing.TB
	failed   bool
	cleanups []func()
}

func (t *outside) Helper()                           {}
func (t *outside) Failed() bool                      { return t.failed }
func (t *outside) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *outside) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (t *outside) Errorf(format string, args ...any) { t.failed = true; t.Logf(format, args...) }
func (t *outside) Error(args ...any)                 { t.Errorf("%s", fmt.Sprintln(args...)) }

func (t *outside) Fatal(args ...any) {
	t.Error(args...)
	runtime.Goexit()
}

func (t *outside) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

func (t *outside) TempDir() string {
	dir, err := os.MkdirTemp("", "pamprompt-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Clean(dir)
}

func (t *outside) cleanup() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}
