// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

// crowd opens n sessions, each with a reason of its own, and returns them with
// their prompts when all of them wait.
func (b *stage) crowd(n int, o api.Options) (sessions []*api.Session, prompts map[string]api.Prompt) {
	b.t.Helper()
	sessions = make([]*api.Session, n)
	errs := make([]error, n)
	var opening sync.WaitGroup
	for i := range n {
		opening.Go(func() {
			mine := o
			mine.Reason = fmt.Sprint("number ", i)
			sessions[i], errs[i] = b.bus.Open(within(b.t), "one", "anna", mine)
		})
	}
	opening.Wait()
	prompts = make(map[string]api.Prompt)
	for i, s := range sessions {
		if errs[i] != nil {
			b.t.Fatal(errs[i])
		}
		p := b.bus.promptOf(s)
		prompts[p.Reason] = p
	}
	return sessions, prompts
}

// answerAll answers each request with its line, and wants every module to get
// the answer to its own question.
func (b *stage) answerAll(sessions []*api.Session, requests []request) {
	b.t.Helper()
	for _, r := range requests {
		r.say(b.t, "+"+r.Message)
	}
	for i, s := range sessions {
		if got, want := b.bus.opened(s), line(fmt.Sprint("number ", i), "", "Password:"); got != want {
			b.t.Errorf("session %d got the answer %q", i, got)
		}
	}
	b.wantNothingOfOurs()
}

func TestTwoHundredQuestionsWaitAtOnce(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	const n = 200
	sessions, _ := b.crowd(n, api.Options{})
	requests := b.requests(n)
	if listed := strings.Count(b.output(ttyAgent, "--list"), "\n"); listed != n {
		t.Errorf("systemd's agent lists %d", listed)
	}
	b.answerAll(sessions, requests)
}

// others puts into the directory what is not ours, and what looks like it. The
// function checks that all of it is still there.
func (b *stage) others() (check func()) {
	b.t.Helper()
	var names []string
	add := func(name, text string) {
		names = append(names, name)
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	add("ask.of-somebody", "[Ask]\nSocket="+filepath.Join(b.dir, "sck.of-somebody")+"\nMessage=Disk secret\n")
	add("ask.pamprompt", "not ours")
	add("pamprompt-0123456789abcdef", "not ours")
	add("xask.pamprompt-0123456789abcdef", "not ours")
	// One of a pamprompt that lives: somebody listens to its socket.
	add("ask.pamprompt-00000000000000aa", "[Ask]\nSocket=/run/systemd/ask-password/sck.pamprompt-00000000000000aa\nMessage=Another one\n")
	for _, name := range []string{"sck.of-somebody", "sck.pamprompt-00000000000000aa"} {
		names = append(names, name)
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(b.dir, name), Net: "unixgram"})
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = conn.Close() })
	}
	return func() {
		b.t.Helper()
		for _, name := range names {
			if _, err := os.Lstat(filepath.Join(b.dir, name)); err != nil {
				b.t.Errorf("what belongs to somebody else has gone: %v", err)
			}
		}
	}
}

func TestABrokerIsKilledWhileAHundredQuestionsWait(t *testing.T) {
	b := one(t, asks(t, "ask=secret,Password: ; export=ANSWER"))
	const n = 100
	sessions, prompts := b.crowd(n, api.Options{Linger: true})
	before := b.requests(n)
	check := b.others()
	b.Kill(t)
	for _, r := range before {
		if r.gone() {
			t.Fatal("a request has gone with the broker, though nobody could remove it")
		}
	}
	// An agent that answers meanwhile talks to nobody.
	if err := before[0].send("+too early"); err == nil {
		t.Error("somebody took an answer while there was no broker")
	}
	b.Restart(t)
	for _, s := range sessions {
		p := b.bus.promptOf(s)
		if old := prompts[p.Reason]; p.ID != old.ID || p.Index != old.Index || p.Message != old.Message {
			t.Errorf("%s had prompt %d and has %d", p.Reason, old.ID, p.ID)
		}
	}
	after := b.requestsBut("ask.pamprompt-00000000000000aa", n)
	for _, r := range before {
		if !r.gone() {
			t.Errorf("%s is left of the broker that was killed", r.path)
		}
		if slices.ContainsFunc(after, func(other request) bool { return other.Socket == r.Socket }) {
			t.Errorf("%s is used again", r.Socket)
		}
	}
	check()
	b.wantAsked("Disk secret")
	for _, r := range after {
		r.say(t, "+"+r.Message)
	}
	for i, s := range sessions {
		if got, want := b.bus.opened(s), line(fmt.Sprint("number ", i), "", "Password:"); got != want {
			t.Errorf("session %d got the answer %q", i, got)
		}
	}
	check()
	b.Signal(t, syscall.SIGTERM)
	b.Ended(t)
	check()
	for _, name := range []string{"ask.pamprompt-00000000000000aa", "sck.pamprompt-00000000000000aa"} {
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Error(err)
		}
	}
	b.wantNothingOfOurs()
}

// wantAsked wants one question of another program, and no other: the request of
// another pamprompt is none.
func (b *stage) wantAsked(message string) {
	b.t.Helper()
	var asked []string
	for _, p := range b.bus.pending() {
		if p.Source == api.SourceAskPassword {
			asked = append(asked, p.Message)
		}
	}
	if !slices.Equal(asked, []string{message}) {
		b.t.Errorf("other programs ask %q, not %q", asked, message)
	}
}

// requestsBut waits until there are n requests of ours besides one.
func (b *stage) requestsBut(other string, n int) (found []request) {
	b.t.Helper()
	var files []string
	until(b.t, b.dir, func() bool {
		files = slices.DeleteFunc(names(b.t, b.dir, ours), func(name string) bool { return name == other })
		return len(files) == n
	})
	for _, name := range files {
		found = append(found, load(b.t, b.dir, name))
	}
	return found
}

// The directory goes, with all that is in it, and comes again.
func TestTheDirectoryGoesAndComesAgain(t *testing.T) {
	b := one(t, password(t))
	s, p, r := b.ask(api.Options{})
	// All at once: it is made again while it is being emptied.
	old := filepath.Join(b.run, "old")
	if err := os.Rename(filepath.Dir(b.dir), old); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
	until(t, b.run, func() bool { _, err := os.Stat(filepath.Dir(b.dir)); return err == nil })
	until(t, filepath.Dir(b.dir), func() bool { _, err := os.Stat(b.dir); return err == nil })
	b.anotherThan(r).say(t, "+"+answer)
	b.bus.closed(p, api.OutcomeAnswered)
	b.bus.opened(s)
}
