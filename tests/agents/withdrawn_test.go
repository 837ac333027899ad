// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

func TestAnotherProgramDoesNotAskAnyMore(t *testing.T) {
	b := one(t, password(t))
	for _, test := range []struct {
		name    string
		args    []string
		end     func(a *asker)
		outcome string
		late    api.Code // what an answer hears then
	}{
		{"its time is over", []string{"--timeout=0.4"}, func(a *asker) { a.fails() }, api.OutcomeExpired, api.TimedOut},
		{"it is killed", nil, func(a *asker) { _ = a.cmd.Process.Kill() }, api.OutcomeSessionClosed, api.NoSuchPrompt},
		{"it is told to end", nil, func(a *asker) { _ = a.cmd.Process.Signal(os.Interrupt) }, api.OutcomeSessionClosed, api.NoSuchPrompt},
		{"an agent of systemd answers", nil, func(a *asker) {
			b.reply(b.theirs(), "1", "by an agent\n")
			a.prints("by an agent\n")
		}, api.OutcomeSessionClosed, api.NoSuchPrompt},
		{"an agent of systemd cancels", nil, func(a *asker) {
			b.reply(b.theirs(), "0", "")
			a.fails()
		}, api.OutcomeSessionClosed, api.NoSuchPrompt},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			a := b.asker(append(test.args, "Disk secret")...)
			p := b.bus.asked()
			test.end(a)
			b.bus.closed(p, test.outcome)
			if err := b.bus.give(p.ID, "too late"); !errors.Is(err, test.late) {
				t.Errorf("an answer afterwards: %v, not %s", err, test.late)
			}
			_ = a.cmd.Wait()
			for _, left := range names(t, b.dir, "") { // of one that was killed
				if err := os.Remove(filepath.Join(b.dir, left)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// gone takes a question back.
func (q *question) gone() {
	q.t.Helper()
	_ = q.conn.Close()
	if err := os.Remove(q.path); err != nil {
		q.t.Error(err)
	}
	_ = os.Remove(strings.Replace(q.path, "ask.", "sck.", 1))
}

func TestARequestIsWithdrawnOrReplaced(t *testing.T) {
	b := one(t, password(t))
	for _, test := range []struct {
		name    string
		more    string
		end     func(q *question)
		outcome string
	}{
		{"removed", "", func(q *question) { q.gone() }, api.OutcomeSessionClosed},
		{"renamed", "", func(q *question) {
			if err := os.Rename(q.path, filepath.Join(b.dir, "gone")); err != nil {
				t.Fatal(err)
			}
		}, api.OutcomeSessionClosed},
		{"nobody listens any more", "", func(q *question) {
			_ = q.conn.Close()
			if err := b.bus.give(b.bus.pending()[0].ID, "too late"); !errors.Is(err, api.NoSuchPrompt) {
				t.Errorf("an answer that nobody reads: %v", err)
			}
		}, api.OutcomeSessionClosed},
		{"its time is over, and its program keeps it", fmt.Sprintf("NotAfter=%d\n", protocol.Now()+uint64(time.Second/time.Microsecond)),
			func(*question) {}, api.OutcomeExpired},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			q := b.put("theirs", test.more)
			p := b.bus.asked()
			test.end(q)
			b.bus.closed(p, test.outcome)
		})
	}
	t.Run("another one in its place", func(t *testing.T) {
		b.during(t)
		b.put("theirs", "Id=first\n")
		first := b.bus.asked()
		b.write("theirs", "[Ask]\nSocket="+protocol.System+"/sck.theirs\nMessage=theirs?\nId=second\n")
		b.bus.closed(first, api.OutcomeSessionClosed)
		if second := b.bus.asked(); second.RequestID != "second" || second.ID == first.ID {
			t.Errorf("the second one is %+v", second)
		}
	})
}

// What is no request is ignored with one line in the log.
func TestWhatIsNoRequest(t *testing.T) {
	b := one(t, password(t))
	for i, test := range []struct {
		name string
		make func(name string) // ask.<name>
		why  string
	}{
		{"half written", func(n string) { b.write(n, "[Ask]\nMessage=Password for ro") }, "no Socket="},
		{"nothing", func(n string) { b.write(n, "") }, "no Socket="},
		{"noise", func(n string) { b.write(n, "[Ask]\nSocket=/x\nMessage=\xff\xfe\x01\n") }, "no text"},
		{"a NUL", func(n string) { b.write(n, "[Ask]\nSocket=/x\x00\n") }, "no text"},
		{"huge", func(n string) { b.write(n, "[Ask]\nSocket=/x\n#"+strings.Repeat("x", 64<<10)) }, "longer than 65536"},
		{"a socket somewhere else by ..", func(n string) { b.write(n, "[Ask]\nSocket=/run/../etc/passwd\n") }, ".."},
		{"a number that is none", func(n string) { b.write(n, "[Ask]\nSocket=/x\nNotAfter=soon\n") }, "NotAfter="},
		{"that others may write", func(n string) {
			b.rename(n, func(path string) {
				b.must(os.WriteFile(path, []byte("[Ask]\nSocket=/x\n"), 0o644), os.Chmod(path, 0o666))
			})
		}, "others than its owner may write"},
		{"somebody else's", func(n string) {
			b.rename(n, func(path string) {
				b.must(os.WriteFile(path, []byte("[Ask]\nSocket=/x\n"), 0o644), os.Chown(path, nobody, nobody))
			})
		}, "belongs to uid 65534"},
		{"a link", func(n string) {
			b.rename(n, func(path string) { b.must(os.Symlink("/etc/passwd", path)) })
		}, "too many levels of symbolic links"},
		{"a directory", func(n string) { b.rename(n, func(path string) { b.must(os.Mkdir(path, 0o755)) }) }, "no regular file"},
		{"a pipe", func(n string) {
			b.rename(n, func(path string) { b.must(unix.Mkfifo(path, 0o600)) })
		}, "no regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			name := fmt.Sprint("broken", i)
			test.make(name)
			line := b.logged("is no request and is ignored", "ask."+name)
			if !strings.Contains(line, test.why) {
				t.Errorf("the log does not say %q: %s", test.why, line)
			}
			q := b.put("after", "") // what comes then is seen
			p := b.bus.asked()
			if list := b.bus.pending(); len(list) != 1 {
				t.Errorf("there wait %+v", list)
			}
			b.bus.answer(p, "x")
			q.hears("+x")
			b.bus.closed(p, api.OutcomeAnswered)
			if lines := b.lines("is no request", "ask."+name+" "); len(lines) > 1 {
				t.Errorf("the log has %d lines: %q", len(lines), lines)
			}
		})
	}
}

// rename makes something under another name, and gives it that of a request.
func (b *stage) rename(name string, make func(path string)) {
	b.t.Helper()
	temporary := filepath.Join(b.dir, "tmp."+name)
	make(temporary)
	b.must(os.Rename(temporary, filepath.Join(b.dir, "ask."+name)))
}

func (b *stage) must(errs ...error) {
	b.t.Helper()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatal(err)
	}
}

// A file that is wrong at first may become right: it is looked at again.
func TestAFileThatBecomesARequest(t *testing.T) {
	b := one(t, password(t))
	b.write("slow", "[Ask]\nMessage=half")
	b.logged("is no request", "ask.slow")
	q := b.put("slow", "") // in the same place
	p := b.bus.asked()
	b.bus.answer(p, "x")
	q.hears("+x")
	b.bus.closed(p, api.OutcomeAnswered)
}

// The name of a socket may lead to somebody else's, who is to hear nothing.
func TestASocketThatIsNotTheirs(t *testing.T) {
	b := one(t, password(t))
	q := b.put("theirs", "")
	p := b.bus.asked()
	b.must(os.Chown(strings.Replace(q.path, "ask.", "sck.", 1), nobody, nobody))
	err := b.bus.give(p.ID, "secret")
	if err == nil {
		t.Error("the answer went to a socket of somebody else")
	}
	q.silent()
	if len(b.bus.pending()) != 1 {
		t.Error("the prompt has ended")
	}
	b.must(os.Chown(strings.Replace(q.path, "ask.", "sck.", 1), 0, 0))
	b.bus.answer(p, "secret")
	q.hears("+secret")
}
