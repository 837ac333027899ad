// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// fifo is a pipe with a name that is full, and its reader.
func fifo(t *testing.T) (path string, reader *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "stderr")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	writer, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	for page := make([]byte, os.Getpagesize()); err == nil; {
		_, err = unix.Write(int(writer.Fd()), page)
	}
	return path, reader
}

// The broker, the pool and the workers have one standard error. Nobody reads it.
func TestNobodyTakesTheLog(t *testing.T) {
	for _, c := range []struct {
		name  string
		shell func(t *testing.T) (script string, then func(*bench))
	}{
		{"the pipe is full and nobody reads it", func(t *testing.T) (string, func(*bench)) {
			path, reader := fifo(t)
			return `exec "$@" 2>` + path, func(b *bench) { // what was kept comes when somebody does
				for text := make([]byte, 1<<16); ; {
					_ = reader.SetReadDeadline(time.Now().Add(patience))
					n, err := reader.Read(text)
					if err != nil {
						t.Fatalf("the log does not come: %v", err)
					}
					if strings.Contains(string(text[:n]), "msg=serving") {
						return
					}
				}
			}
		}},
		{"the pipe has lost its reader", func(t *testing.T) (string, func(*bench)) {
			path, reader := fifo(t)
			return `exec "$@" 2>` + path, func(b *bench) {
				_ = reader.Close()
				b.works()
			}
		}},
		{"it is closed, and standard output too", func(*testing.T) (string, func(*bench)) {
			return `exec "$@" >&- 2>&- <&-`, func(*bench) {}
		}},
		{"it is a full file system", func(*testing.T) (string, func(*bench)) {
			return `exec "$@" >/dev/full 2>/dev/full`, func(*bench) {}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			script, then := c.shell(t)
			b := start(t, "/bin/sh", "-c", script, "sh")
			goesOn, longest := b.bystander(), time.Duration(0)
			for range 8 {
				began := time.Now()
				s := b.open(b.here, "ask", api.Options{})
				p := b.promptOf(s)
				if err := b.give(b.here, p.ID); err != nil {
					t.Error(err)
				}
				b.wait(s, api.StateOpen)
				b.close(s)
				longest = max(longest, time.Since(began))
			}
			used := system.ProcessorTime(t, b.BrokerPID())
			then(b)
			goesOn()
			b.Signal(t, unix.SIGTERM)
			if code := b.EndedWith(t); code != 0 {
				t.Errorf("it ended with %d", code)
			}
			saw(t, "nobody takes the log, %s: of 8 sessions, each asked, answered and closed, the slowest took %v; the broker used %v of a processor, and ended in order",
				c.name, longest.Round(time.Millisecond), used)
		})
	}
}
