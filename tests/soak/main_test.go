// SPDX-License-Identifier: Apache-2.0

// Package soak puts pamprompt under load and looks for what grows, and for what is
// lost: memory, goroutines, descriptors, files, rules at the bus, processes, keyrings;
// prompts that nobody hears of, or twice. It holds nothing but tests.
//
// The quick run takes 40 seconds; PAMPROMPT_SOAK=30m (make soak) has the loads in full,
// and spends that time with callers who come and go. The race detector has no place
// here: what is measured are the programs as they are released, but for package figures.
//
//	main_test.go      what stands around all tests: the programs, agents, files
//	usage_test.go     what is in use: by the broker, the pool, the bus, and us
//	judge_test.go     ... and what of it is growth
//	table_test.go     ... printed
//	callers_test.go   callers who come and go, round after round, and a broker that is killed
//	kinds_test.go     what a caller does: each way in which a session ends
//	storm_test.go     ... while sessions of somebody stay
//	limits_test.go    a caller who wants more than it may
//	files_test.go     who answers as systemd's agents do
//	sessions_test.go  1,000 sessions that wait at once, with 50 agents
//	questions_test.go 10,000 questions of one conversation
//	leaks_test.go     brokers that leak, which must be noticed
package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/tests/figures"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) {
	system.BuildTags("figures")
	os.Exit(system.Main(m))
}

// patience bounds what must happen; nothing waits for it to pass.
const patience = 30 * time.Second

// length is how long callers come and go: PAMPROMPT_SOAK. The quick run does so many
// things instead, and kills the broker twice in about this time.
func length(t testing.TB) (d time.Duration, quick bool) {
	t.Helper()
	text := os.Getenv("PAMPROMPT_SOAK")
	if text == "" {
		return 6 * time.Second, true
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute {
		t.Fatalf("PAMPROMPT_SOAK=%s is no duration of a minute or more", text)
	}
	return d, false
}

func saw(t testing.TB, format string, args ...any) {
	t.Attr("saw", fmt.Sprintf(format, args...))
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// users is how many accounts callers use, and there are some more for who stays. Each has a
// password of its own, so that an answer that comes to the wrong module fails its session.
const users = 1000

func user(i int) string { return fmt.Sprint("user", i) }

func password(i int) string { return fmt.Sprint("secret", i) }

// bench is a system whose pool is apart, as under systemd, with a directory for
// systemd's agents, and with a desk for the figures of its programs.
type bench struct {
	*system.OnBus
	files *files
	desk  *figures.Desk
	conn  *dbus.Conn // to ask the bus

	patience time.Duration // how long what nobody uses any more may take to go
}

// allowed is what another uid may do here: open some, and ask some.
const allowed = `
[[rule]]
action = "open"
service = "word"
caller = "uid:65534"
verdict = "allow"

[[rule]]
action = "converse"
service = "ftp"
caller = "uid:1"
verdict = "allow"
`

func start(t testing.TB) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root: a caller of another user, and the /proc of programs that are not dumpable")
	}
	short, err := os.MkdirTemp("", "soak-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	b := &bench{files: watchFiles(t, t.TempDir()), patience: patience}
	if b.desk, err = figures.Open(filepath.Join(short, "desk")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.desk.Close() })
	t.Setenv(figures.Variable, filepath.Join(short, "desk"))
	if err = os.Mkdir(filepath.Join(short, "rules"), 0o755); err == nil {
		err = os.WriteFile(filepath.Join(short, "rules", "soak.toml"), []byte(allowed), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.OnBus = system.StartOnBus(t, system.Options{
		PoolArgs: []string{"--log-level=error"},
		Stacks: map[string]string{
			"permit": system.Permit(), "word": words(t, "word"), "token": words(t, "token"),
		},
		BrokerArgs: []string{
			"--ask-password=" + b.files.dir, "--user-ask-password=no", "--policy=" + filepath.Join(short, "rules"), "--log-level=warn",
		},
	})
	if err := os.Chmod(b.Dir, 0o711); err != nil { // the other uid comes to the bus
		t.Fatal(err)
	}
	b.conn = b.Conn(t)
	return b
}

// words is a stack that asks for a user's password.
func words(t testing.TB, service string) string {
	t.Helper()
	var b strings.Builder
	for i := range users + bystanders {
		fmt.Fprintf(&b, "%s:%s:%s\n", user(i), password(i), service)
	}
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return system.Every(modules.System(t, "pam_matrix"), "passdb="+path)
}

// agents are clients that are told of every prompt, and answer.
func (b *bench) agents(t testing.TB, n int) []*api.Client {
	t.Helper()
	clients := make([]*api.Client, n)
	for i := range clients {
		clients[i] = b.Client(t)
		w, err := clients[i].Watch(context.Background(), api.WatchOptions{Agent: true})
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			for range w.Events() {
			}
			if w.Err() != nil {
				t.Errorf("an agent's watcher ended: %v", w.Err())
			}
		}()
		t.Cleanup(func() { w.Close(); <-heard })
	}
	return clients
}

// answer answers a prompt.
func answer(ctx context.Context, c *api.Client, prompt uint64, text string) error {
	s, err := secret.New(len(text))
	if err != nil {
		return err
	}
	defer s.Wipe()
	copy(s.Bytes(), text)
	return c.Answer(ctx, prompt, s)
}

// wantCode is an error unless err has the code.
func wantCode(err error, code api.Code) error {
	if errors.Is(err, code) {
		return nil
	}
	return fmt.Errorf("it should be %s, and is %w", code, errors.Join(err, errNot))
}

var errNot = errors.New("not what was to come")
