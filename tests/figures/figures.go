// SPDX-License-Identifier: Apache-2.0

// Package figures lets a test see what a Go program holds that no file in /proc
// shows: its goroutines, and its heap after a garbage collection. No program that is
// released has it: only a build with the tag "figures" calls Serve (tests/imports
// checks that), and then only a process that has Variable in its environment answers.
package figures

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"
)

// Variable is the environment variable with the path of the socket to which a program
// brings its figures when it gets SIGUSR2.
const Variable = "PAMPROMPT_FIGURES"

// Figures are those of one process at one moment.
type Figures struct {
	PID        int
	Goroutines int
	Heap       uint64 // bytes that are in use
	Objects    uint64 // and in how many pieces
	Stacks     string // where the goroutines are, those at one place counted together
}

// Own are the figures of this process, after a garbage collection.
func Own() Figures {
	// What a first collection only moves (sync.Pool) or has a finalizer for goes
	// with the second; the rest goes back to the system, so that RSS means something.
	runtime.GC()
	debug.FreeOSMemory()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	return Figures{
		PID: os.Getpid(), Goroutines: runtime.NumGoroutine(),
		Heap: memory.HeapAlloc, Objects: memory.HeapObjects, Stacks: stacks.String(),
	}
}

// Serve has this process bring its figures to the socket of Variable at each SIGUSR2,
// and does nothing without Variable.
func Serve() {
	path := os.Getenv(Variable)
	if path == "" {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGUSR2)
	go func() {
		for range asked {
			bring(path)
		}
	}()
}

// bring has nobody to tell of an error but who asked, and misses them.
func bring(path string) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = json.NewEncoder(conn).Encode(Own())
}

// Desk is where figures are brought.
type Desk struct{ listener *net.UnixListener }

// Open makes the socket, which Close removes.
func Open(path string) (*Desk, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &Desk{l}, nil
}

// Close removes the socket.
func (d *Desk) Close() error { return d.listener.Close() }

// Ask has a process bring its figures, and waits for them for so long.
func (d *Desk) Ask(pid int, patience time.Duration) (Figures, error) {
	late := time.Now().Add(patience)
	if err := errors.Join(unix.Kill(pid, unix.SIGUSR2), d.listener.SetDeadline(late)); err != nil {
		return Figures{}, fmt.Errorf("ask process %d for its figures: %w", pid, err)
	}
	conn, err := d.listener.Accept()
	if err != nil {
		return Figures{}, fmt.Errorf("process %d does not bring its figures: %w", pid, err)
	}
	defer func() { _ = conn.Close() }()
	var f Figures
	if err := errors.Join(conn.SetDeadline(late), json.NewDecoder(conn).Decode(&f)); err != nil {
		return Figures{}, fmt.Errorf("read the figures of process %d: %w", pid, err)
	}
	if f.PID != pid {
		return Figures{}, fmt.Errorf("these are the figures of process %d, not of %d", f.PID, pid)
	}
	return f, nil
}
