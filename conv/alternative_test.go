// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// beside makes a Start one of two alternatives.
func beside(s *worker.Start) {
	s.Alternative = &worker.Alternative{Index: 1, Services: []string{"main", s.GetService()}}
}

var proceed = &worker.ToWorker{Message: &worker.ToWorker_Proceed{Proceed: &worker.Proceed{}}}

// ready runs an alternative until it waits.
func ready(t *testing.T, dir string) (*convtest.Broker, *convtest.Process, *convtest.Peer) {
	t.Helper()
	broker, process, peer := run(t, dir)
	peer.Start(convtest.Start("test", "root", beside))
	peer.Expect("entering start", "resolved 0", "entering authenticate 1", "entering account", "ready")
	return broker, process, peer
}

func TestAnAlternativeStopsBeforeTheCredentials(t *testing.T) {
	dir := stack(t, logged()...)
	broker, process, peer := ready(t, dir)
	peer.Leave()
	peer = broker.Accept()
	if got, want := convtest.DescribeSession(peer.Hello.GetSession()), "session 4711 account, ready"; got != want {
		t.Errorf("the worker came back with %q, not %q", got, want)
	}
	peer.Send(proceed)
	peer.Expect("entering credentials", "entering session", "opened []")
	peer.Leave()
	peer = broker.Accept()
	if got, want := convtest.DescribeSession(peer.Hello.GetSession()), "session 4711 open, ready, proceeds, opened"; got != want {
		t.Errorf("the worker came back with %q, not %q", got, want)
	}
	peer.Close()
	convtest.Continue(peer)
	process.Wait()
}

func TestAnAlternativeThatIsClosedWhileItWaits(t *testing.T) {
	dir := stack(t, logged()...)
	_, process, peer := ready(t, dir)
	peer.Close()
	wantSaid(t, convtest.Continue(peer), "entering end", "closed 0 closed before it opened")
	process.Wait()
	for _, line := range lines(t, filepath.Join(dir, "log")) {
		if line == "setcred" || line == "open" {
			t.Errorf("the module saw %q", line)
		}
	}
}

func TestAProceedThatMayNotCome(t *testing.T) {
	for name, begin := range map[string]func(*session) error{
		"to what is no alternative": func(s *session) error { return s.begin(convtest.Start("test", "root")) },
		"before it is ready":        func(s *session) error { return s.begin(convtest.Start("test", "root", beside)) },
		"twice": func(s *session) error {
			if err := s.begin(convtest.Start("test", "root", beside)); err != nil {
				return err
			}
			s.state.Ready = true
			return s.goOn()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(quiet())
			if err := begin(s); err != nil {
				t.Fatal(err)
			}
			if err := s.goOn(); !errors.Is(err, worker.ErrMalformed) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func endedOf(index uint32, text string) *worker.ToWorker {
	return &worker.ToWorker{Message: &worker.ToWorker_Ended{Ended: &worker.Ended{
		Index: index, Failed: &worker.Failed{Error: "PAMFailed", PamResult: 6, Text: []byte(text)},
	}}}
}

// What an alternative was told of another one, of which the last word counts, it tells
// the next broker.
func TestAnAlternativeRemembersHowOthersEnded(t *testing.T) {
	broker, process, peer := ready(t, stack(t, logged()...))
	peer.Send(endedOf(0, "first"))
	peer.Send(endedOf(0, "last"))
	peer.Leave()
	peer = broker.Accept()
	if known := peer.Hello.GetSession().GetEnded(); len(known) != 1 || !proto.Equal(known[0], endedOf(0, "last").GetEnded()) {
		t.Errorf("the worker came back and said %v", known)
	}
	peer.Close()
	convtest.Continue(peer)
	process.Wait()
}

func TestAnEndThatMayNotCome(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*worker.Start)
		index  uint32
	}{
		"to what is no alternative": {func(*worker.Start) {}, 0},
		"of itself":                 {beside, 1},
		"of one that there is not":  {beside, 2},
	} {
		s := newSession(quiet())
		if err := s.begin(convtest.Start("test", "root", test.change)); err != nil {
			t.Fatal(err)
		}
		if err := dispatch(s, endedOf(test.index, ""), nil); !errors.Is(err, worker.ErrMalformed) || len(s.state.GetEnded()) != 0 {
			t.Errorf("%s: the error is %v, and it knows %v", name, err, s.state.GetEnded())
		}
	}
	if err := dispatch(newSession(quiet()), endedOf(0, ""), nil); !errors.Is(err, worker.ErrMalformed) {
		t.Errorf("to an idle worker: the error is %v", err)
	}
}

// Who reads what a command would have written sees that there is none, although a
// module has not returned.
func TestAnAlternativeThatIsClosedLetsGoOfStdio(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*worker.Start)
		proceeds bool
		closed   bool
	}{
		{"one that waits", beside, false, true},
		{"the one that goes on", beside, true, false},
		{"the only transaction", func(*worker.Start) {}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSession(quiet())
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = out.Close() }()
			start := convtest.Start("test", "root", c.change, func(s *worker.Start) {
				s.Command = &worker.Command{Arguments: []string{"true"}, Stdio: true}
			})
			if err := s.begin(start, in, in, in); err != nil {
				t.Fatal(err)
			}
			_ = in.Close()
			s.state.Phase, s.state.Proceeds = worker.Phase_PHASE_AUTHENTICATE, c.proceeds
			s.working = true // so that nothing ends this process
			s.close()
			poll := []unix.PollFd{{Fd: int32(out.Fd()), Events: unix.POLLIN}}
			if _, err := unix.Poll(poll, 0); err != nil {
				t.Fatal(err)
			}
			if closed := poll[0].Revents&unix.POLLHUP != 0; closed != c.closed {
				t.Errorf("after Close the pipe has ended: %v", closed)
			}
			s.dropStdio()
		})
	}
}
