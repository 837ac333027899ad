// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pamprompt/pamprompt/api/worker"
)

const (
	firstRedial = 50 * time.Millisecond
	lastRedial  = time.Second
)

// dialForever keeps the session attached to the broker until the process ends.
// It never waits for the goroutine that is in PAM. A session that nobody looks
// after any more is closed, in order, unless it lingers.
func dialForever(c Config, s *session) {
	delay, away := firstRedial, time.Now()
	for {
		dialled := time.Now()
		took, err := serve(c, s, away)
		c.Log.Debug("no connection to the broker", "socket", c.Socket, "error", err)
		lasted := time.Since(dialled)
		if took || lasted > lastRedial {
			away = time.Now()
		}
		if c.BrokerTimeout > 0 && time.Since(away) > c.BrokerTimeout {
			s.abandon(c.BrokerTimeout)
		}
		// As a rule at once: where systemd keeps the socket it is there, and the next
		// broker looks who waits. Only what is over at once is tried less and less. A
		// session that has ended is no more than told of, if this process is still there.
		switch {
		case s.hasEnded():
			time.Sleep(delay)
		case lasted > delay:
			delay = firstRedial
			continue
		default:
			time.Sleep(delay - lasted)
		}
		if delay = min(2*delay, lastRedial); took {
			delay = firstRedial
		}
	}
}

// serve dials the broker, says Hello and hands on what comes, until the
// connection ends. It reports whether the broker said anything of use: one that
// does not is dialled again with patience.
func serve(c Config, s *session, away time.Time) (took bool, err error) {
	conn, err := dial(c.Socket)
	if err != nil {
		return false, err
	}
	defer s.detach(conn)
	if err := s.attach(conn); err != nil {
		return false, err
	}
	if c.BrokerTimeout > 0 {
		defer time.AfterFunc(time.Until(away.Add(c.BrokerTimeout)), func() { s.abandonUnheard(conn, c.BrokerTimeout) }).Stop()
	}
	for {
		m := new(worker.ToWorker)
		files, err := conn.Receive(m)
		if err == nil {
			err = dispatch(s, m, files)
		} else if answer := m.GetAnswer(); answer != nil && errors.Is(err, worker.ErrNoDescriptor) {
			s.missed(answer.GetIndex())
			err = nil
		}
		worker.CloseAll(files)
		if errors.Is(err, io.EOF) {
			return took, err
		}
		if err != nil {
			return false, err
		}
		took = true
	}
}

// dial connects to the broker and makes sure that it is one: whoever listens
// there decides what root runs.
func dial(socket string) (*worker.Conn, error) {
	conn, err := worker.Dial(socket)
	if err != nil {
		return nil, err
	}
	if _, uid := conn.Peer(); uid != 0 && int(uid) != os.Geteuid() {
		_ = conn.Close()
		return nil, fmt.Errorf("%s belongs to uid %d, neither root nor this worker's own", socket, uid)
	}
	return conn, nil
}

// dispatch hands a packet to the session. An error means that the packet may
// not come now. The files stay the caller's.
func dispatch(s *session, m *worker.ToWorker, files []*os.File) error {
	want := 0
	switch m := m.GetMessage().(type) {
	case nil:
		return nil // of a later version
	case *worker.ToWorker_Answer:
		want = 1
	case *worker.ToWorker_Start:
		if m.Start.GetCommand().GetStdio() {
			want = 3
		}
	}
	if len(files) != want {
		return fmt.Errorf("%w: %d descriptors where %d belong", worker.ErrMalformed, len(files), want)
	}
	if start := m.GetStart(); start != nil {
		return s.begin(start, files...)
	}
	if resolve := m.GetResolve(); resolve != nil {
		return s.lookUp(resolve.GetUid())
	}
	if sweep := m.GetSweep(); sweep != nil {
		return s.sweep(sweep.GetUid())
	}
	if s.start() == nil {
		return fmt.Errorf("%w: there is no session yet", worker.ErrMalformed)
	}
	switch m := m.GetMessage().(type) {
	case *worker.ToWorker_Numbered:
		s.number(m.Numbered.GetIndex(), m.Numbered.GetNumber())
	case *worker.ToWorker_Answer:
		s.answer(m.Answer.GetIndex(), files[0])
	case *worker.ToWorker_Cancel:
		s.withdraw(m.Cancel.GetIndex(), worker.Outcome_OUTCOME_CANCELLED)
	case *worker.ToWorker_Mirror:
		s.mirror(m.Mirror.GetIndex(), m.Mirror.GetShown())
	case *worker.ToWorker_Signal:
		return s.pass(m.Signal)
	case *worker.ToWorker_Proceed:
		return s.goOn()
	case *worker.ToWorker_Ended:
		return s.otherEnded(m.Ended)
	case *worker.ToWorker_Close:
		s.close()
	}
	return nil
}
