// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/tests/modules"
)

func TestWhatStandsInARequest(t *testing.T) {
	b := start(t, options{stacks: map[string]string{
		"one":     asks(t, "info=It is late; error=Go to bed; ask=secret,Password: "),
		"visible": asks(t, "ask=visible,Name?"),
	}})
	for _, test := range []struct {
		name, service string
		options       api.Options
		line          string
		echo          bool
	}{
		{"a secret, for ever", "one", api.Options{}, "anna (one): It is late. Go to bed. Password:", false},
		{"with a reason", "one", api.Options{Reason: "nightly backup"}, `anna (one, "nightly backup"): It is late. Go to bed. Password:`, false},
		{"a visible question with a timeout", "visible", api.Options{Timeout: time.Minute}, "anna (visible): Name?", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			s := b.bus.open(test.service, test.options)
			p := b.bus.promptOf(s)
			r := b.request()
			want := protocol.Request{
				Message: test.line, Icon: "dialog-password", ID: "pamprompt:" + test.service + ":anna",
				Socket: filepath.Join(protocol.System, "sck."+filepath.Base(r.path)[len("ask."):]),
				PID:    b.pid(), NotAfter: p.Expires, Echo: test.echo,
			}
			if r.Request != want {
				t.Errorf("it is %+v\nnot     %+v", r.Request, want)
			}
			if (p.Expires != 0) != (test.options.Timeout != 0) {
				t.Errorf("the prompt expires at %d", p.Expires)
			}
			for path, mode := range map[string]os.FileMode{r.path: 0o644, r.socket: 0o600 | os.ModeSocket} {
				st, err := os.Lstat(path)
				if err != nil {
					t.Fatal(err)
				}
				if owner := st.Sys().(*syscall.Stat_t); st.Mode() != mode || owner.Uid != 0 || owner.Gid != 0 {
					t.Errorf("%s has mode %v and belongs to %d:%d", path, st.Mode(), owner.Uid, owner.Gid)
				}
			}
			b.bus.cancel(p)
			b.bus.closed(p, api.OutcomeCancelled)
		})
	}
}

// pid is the broker's process.
func (b *stage) pid() int {
	b.t.Helper()
	var pid uint32
	if err := b.Conn(b.t).BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName).Store(&pid); err != nil {
		b.t.Fatal(err)
	}
	return int(pid)
}

// An agent looks at the directory once for each change that it is told of. Told
// twice of one question, it would ask again when it has just been answered;
// and Plymouth does not take back what it asks.
func TestAgentsAreToldOnceOfARequest(t *testing.T) {
	b := one(t, password(t))
	var s *api.Session
	var p api.Prompt
	var r request
	seen := changes(t, b.dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO, func() { s, p, r = b.ask(api.Options{}) }) // as they do
	if want := []change{{unix.IN_MOVED_TO, filepath.Base(r.path)}}; !slices.Equal(seen, want) {
		t.Errorf("they are told %v, not %v", seen, want)
	}
	b.bus.answer(p, answer)
	b.bus.opened(s)
}

// Whoever hears of the end of a prompt finds no file any more.
func TestARequestGoesWithItsPrompt(t *testing.T) {
	b := one(t, password(t))
	leaver := b.Client(t)
	for _, test := range []struct {
		name    string
		options api.Options
		by      *api.Client // who opens the session, if not the agent
		end     func(s *api.Session, p api.Prompt, r request)
		outcome string
	}{
		{"answered over D-Bus", api.Options{}, nil,
			func(_ *api.Session, p api.Prompt, _ request) { b.bus.answer(p, answer) }, api.OutcomeAnswered},
		{"answered by an agent", api.Options{}, nil,
			func(_ *api.Session, _ api.Prompt, r request) { r.say(t, "+"+answer) }, api.OutcomeAnswered},
		{"answered wrongly by an agent", api.Options{}, nil,
			func(_ *api.Session, _ api.Prompt, r request) { r.say(t, "+wrong") }, api.OutcomeAnswered},
		{"cancelled over D-Bus", api.Options{}, nil,
			func(_ *api.Session, p api.Prompt, _ request) { b.bus.cancel(p) }, api.OutcomeCancelled},
		{"cancelled by an agent", api.Options{}, nil,
			func(_ *api.Session, _ api.Prompt, r request) { r.say(t, "-") }, api.OutcomeCancelled},
		{"the session is closed", api.Options{}, nil,
			func(s *api.Session, _ api.Prompt, _ request) { b.bus.end(s) }, api.OutcomeSessionClosed},
		{"the opener leaves the bus", api.Options{}, leaver,
			func(*api.Session, api.Prompt, request) { _ = leaver.Close() }, api.OutcomeSessionClosed},
		{"its time is over", api.Options{Timeout: 500 * time.Millisecond}, nil,
			func(*api.Session, api.Prompt, request) {}, api.OutcomeExpired},
		{"the worker is killed", api.Options{}, nil,
			func(s *api.Session, _ api.Prompt, _ request) { b.killWorker(s) }, api.OutcomeSessionClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.during(t)
			var s *api.Session
			if test.by == nil {
				s = b.open(test.options)
			} else {
				var err error
				if s, err = test.by.Open(within(t), "one", "anna", test.options); err != nil {
					t.Fatal(err)
				}
			}
			p, r := b.bus.promptOf(s), b.request()
			test.end(s, p, r)
			b.bus.closed(p, test.outcome)
			r.wantGone(t)
			b.wantNothingOfOurs()
		})
	}
}

// killWorker kills the process that PAM runs in.
func (b *stage) killWorker(s *api.Session) {
	b.t.Helper()
	p, err := s.Properties(within(b.t))
	if err == nil {
		err = syscall.Kill(int(p.Leader), syscall.SIGKILL)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// What an agent on a terminal cannot answer is not put there.
func TestQuestionsThatAreForDBusAlone(t *testing.T) {
	probe := modules.Probe(t)
	b := start(t, options{stacks: map[string]string{
		"choice": "auth required " + probe + " [auth:ask=choice,Sure?] [auth:ask=secret,Password: ]\n" + rest,
		"binary": "auth required " + probe + " auth:ask=binary,hex:000000050100 [auth:ask=secret,Password: ]\n" + rest,
	}})
	for service, right := range map[string]string{"choice": "yes", "binary": "AAAABQE="} {
		t.Run(service, func(t *testing.T) {
			b.during(t)
			s := b.bus.open(service, api.Options{})
			p := b.bus.promptOf(s)
			if p.Style != service {
				t.Fatalf("it asks in style %s", p.Style)
			}
			b.wantNoRequestBefore(func() {
				b.bus.answer(p, right)
				b.bus.closed(p, api.OutcomeAnswered)
			}, fmt.Sprintf("anna (%s): Password:", service))
			p = b.bus.promptOf(s)
			b.bus.cancel(p)
			b.bus.closed(p, api.OutcomeCancelled) // its request has gone
		})
	}
}

// wantNoRequestBefore does something after which a request with a line comes,
// which must be the first one to come: requests come in the order of prompts.
func (b *stage) wantNoRequestBefore(do func(), message string) {
	b.t.Helper()
	b.wantNothingOfOurs()
	do()
	if r := b.request(); r.Message != message {
		b.t.Errorf("there is a request %q", r.Message)
	}
}

// A broker that is told to end takes its requests along; what waits is asked
// again by the next one.
func TestABrokerThatEndsLeavesNoRequest(t *testing.T) {
	b := one(t, password(t))
	s, p, r := b.ask(api.Options{})
	b.Signal(t, syscall.SIGTERM)
	b.Ended(t)
	r.wantGone(t)
	b.wantNothingOfOurs()
	if err := r.send("+" + answer); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an answer to the request that has gone: %v", err)
	}
	b.Restart(t)
	if again := b.bus.promptOf(s); again.ID != p.ID {
		t.Errorf("prompt %d has become %d", p.ID, again.ID)
	}
	b.anotherThan(r).say(t, "+"+answer)
	b.bus.opened(s)
}
