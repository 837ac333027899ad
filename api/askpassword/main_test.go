// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/system"
)

const (
	// postInto is set in the environment of a child that only posts.
	postInto = "PAMPROMPT_TEST_POST_INTO"
	// patience bounds a test that hangs. Nothing waits for it.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(postInto); dir != "" {
		postAndWait(dir)
		return
	}
	os.Exit(system.Main(m))
}

// postAndWait posts, says under which name, and lives on until its standard
// input ends. It removes nothing.
func postAndWait(dir string) {
	p, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	q, err := p.Post(Request{Message: "of a child"}, func(Reply) {})
	if err != nil {
		panic(err)
	}
	fmt.Println(q.Name())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can do this: run the tests as root")
	}
}

// folder is a directory with a short name: those of sockets are bounded.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ask-")
	check(t, err)
	check(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// place is a directory of requests of the test's own, and what it logs.
func place(t testing.TB) (*Place, *journal) {
	t.Helper()
	log := new(journal)
	p, err := Open(folder(t), slog.New(slog.NewTextHandler(log, nil)))
	check(t, err)
	t.Cleanup(p.Close)
	return p, log
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.WriteFile(path, []byte(text), 0o644))
	check(t, os.Chmod(path, 0o644))
	return path
}

func within[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("not reached")
	}
}

// inNamespace is a command that sees dir in the place of systemd's directory,
// and the rest of the machine as it is.
func inNamespace(t testing.TB, dir string, argv ...string) *exec.Cmd {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("%v: the Debian package systemd has it", err)
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skipf("%v: the Debian package util-linux has it", err)
	}
	const script = `set -eu
		[ -d /run/systemd ] || { mount -t tmpfs tmpfs /run && mkdir /run/systemd; }
		[ -d /run/systemd/ask-password ] || { mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/ask-password; }
		mount --bind "$0" /run/systemd/ask-password
		exec "$@"`
	args := slices.Concat([]string{"--mount", "--propagation", "private", "sh", "-c", script, dir}, argv)
	cmd := exec.Command(unshare, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_LOG_TARGET=console", "SYSTEMD_COLORS=0")
	return cmd
}
