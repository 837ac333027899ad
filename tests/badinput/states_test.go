// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/tests/system"
)

// sample is a packet that is well-formed, so that only the state says whether it
// may come.
type sample struct {
	name   string
	packet *worker.ToBroker
}

// samples are all packets of a worker, most in one form. They are of the first
// question, and of the first attempt.
func samples(t *testing.T) []sample {
	t.Helper()
	all := []sample{
		{"hello", hello()},
		{"resolved", &worker.ToBroker{Message: &worker.ToBroker_Resolved{Resolved: &worker.Resolved{Uid: 0}}}},
		{"resolved as another", &worker.ToBroker{Message: &worker.ToBroker_Resolved{Resolved: &worker.Resolved{Uid: 1}}}},
		{"prompt", prompting(0, worker.Style_STYLE_SECRET)},
		{"taken", &worker.ToBroker{Message: &worker.ToBroker_Taken{Taken: &worker.Taken{}}}},
		{"withdrawn", &worker.ToBroker{Message: &worker.ToBroker_Withdrawn{Withdrawn: &worker.Withdrawn{Outcome: worker.Outcome_OUTCOME_CANCELLED}}}},
		{"text", &worker.ToBroker{Message: &worker.ToBroker_Text{Text: &worker.Message{Style: worker.Style_STYLE_INFO, Text: []byte("hi")}}}},
		{"opened", &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{}}}},
		{"opened with a command", &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: &worker.Opened{Pid: 1 << 30}}}},
		{"closed", closing("kept")},
		{"failed", &worker.ToBroker{Message: &worker.ToBroker_Failed{Failed: &worker.Failed{Error: "MaxTries"}}}},
		{"name", &worker.ToBroker{Message: &worker.ToBroker_Name{Name: &worker.Name{Name: "root"}}}},
		{"exited", &worker.ToBroker{Message: &worker.ToBroker_Exited{Exited: &worker.Exited{Status: 3}}}},
		{"ready", &worker.ToBroker{Message: &worker.ToBroker_Ready{Ready: &worker.Ready{}}}},
	}
	for phase := worker.Phase_PHASE_START; phase <= worker.Phase_PHASE_END; phase += 10 {
		all = append(all, sample{"entering " + phase.Word(), entering(phase)})
	}
	there := make(map[protoreflect.Name]bool)
	oneof := all[0].packet.ProtoReflect().Descriptor().Oneofs().ByName("message")
	for _, s := range all {
		if err := worker.Check(s.packet); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		there[s.packet.ProtoReflect().WhichOneof(oneof).Name()] = true
	}
	for i := range oneof.Fields().Len() {
		if name := oneof.Fields().Get(i).Name(); !there[name] {
			t.Fatalf("there is no sample of %s, which a worker may send", name)
		}
	}
	return all
}

func closing(text string) *worker.ToBroker {
	return &worker.ToBroker{Message: &worker.ToBroker_Closed{Closed: &worker.Closed{Text: []byte(text)}}}
}

// stage is a state that a session is in, as its worker has brought it about.
type stage struct {
	name     string
	phase    worker.Phase // that was entered last; none before the first
	asks     bool         // a question is open
	answers  bool         // and an answer is on its way
	answered bool         // there was one, and the worker has its answer
	opened   bool
	runs     bool // with a command
	exited   bool // which has ended
	resolved bool // it has said that the user is root
	told     bool // to close
	side     bool // it is one of two alternatives
	ready    bool // which waits for the others
	proceeds bool // or was let go on
	loses    bool // or is closed, because the other was
}

const none = worker.Phase_PHASE_UNSPECIFIED

// stages are all states.
func stages() []stage {
	all := []stage{
		{name: "it was given the session", phase: none},
		{name: "it has said who the user is", phase: worker.Phase_PHASE_START, resolved: true},
		{name: "a question waits", phase: worker.Phase_PHASE_AUTHENTICATE, asks: true},
		{name: "an answer is on its way", phase: worker.Phase_PHASE_AUTHENTICATE, asks: true, answers: true},
		{name: "it has the answer", phase: worker.Phase_PHASE_AUTHENTICATE, answered: true},
		{name: "a question waits as it closes", phase: worker.Phase_PHASE_CLOSE_SESSION, opened: true, asks: true},
		{name: "an alternative authenticates", phase: worker.Phase_PHASE_AUTHENTICATE, side: true},
		{name: "an alternative asks", phase: worker.Phase_PHASE_AUTHENTICATE, side: true, asks: true},
		{name: "an alternative is ready", phase: worker.Phase_PHASE_ACCOUNT, side: true, ready: true},
		{name: "an alternative was let go on", phase: worker.Phase_PHASE_ACCOUNT, side: true, proceeds: true},
		{name: "an alternative has lost", phase: worker.Phase_PHASE_AUTHENTICATE, side: true, loses: true},
		{name: "it is open", phase: worker.Phase_PHASE_OPEN, opened: true},
		{name: "its command is to run", phase: worker.Phase_PHASE_SESSION, runs: true},
		{name: "its command runs", phase: worker.Phase_PHASE_OPEN, opened: true, runs: true},
		{name: "its command has ended", phase: worker.Phase_PHASE_OPEN, opened: true, runs: true, exited: true},
		{name: "it is told to close while it authenticates", phase: worker.Phase_PHASE_AUTHENTICATE, told: true},
		{name: "it is told to close when it is open", phase: worker.Phase_PHASE_OPEN, opened: true, told: true},
	}
	for phase := worker.Phase_PHASE_START; phase <= worker.Phase_PHASE_END; phase += 10 {
		if phase != worker.Phase_PHASE_OPEN {
			all = append(all, stage{name: "phase " + phase.Word(), phase: phase, opened: phase > worker.Phase_PHASE_OPEN})
		}
	}
	return all
}

// allows is the protocol: whether a packet may come in a state.
func (s stage) allows(packet *worker.ToBroker) bool {
	begun := s.phase != none
	leave := !s.side || s.proceeds
	switch m := packet.GetMessage().(type) {
	case *worker.ToBroker_Hello, *worker.ToBroker_Name: // the one comes first, the other when it is asked for
		return false
	case *worker.ToBroker_Closed, *worker.ToBroker_Failed:
		return true
	case *worker.ToBroker_Entering:
		p := m.Entering.GetPhase()
		if p >= worker.Phase_PHASE_CREDENTIALS && p < worker.Phase_PHASE_OPEN && !leave || p == worker.Phase_PHASE_OPEN {
			return false
		}
		return p > s.phase && !s.asks && (begun || p == worker.Phase_PHASE_START)
	case *worker.ToBroker_Resolved:
		return begun && (!s.resolved || m.Resolved.GetUid() == 0)
	case *worker.ToBroker_Text:
		return begun
	case *worker.ToBroker_Taken: // of a question that ended while its answer was on its way
		return begun
	case *worker.ToBroker_Prompt: // when it is open too: what modules leave behind may ask at any time
		return begun && !s.asks
	case *worker.ToBroker_Withdrawn:
		return s.asks
	case *worker.ToBroker_Ready:
		return s.side && !s.ready && !s.proceeds && !s.asks
	case *worker.ToBroker_Opened:
		return begun && leave && !s.opened && !s.asks && s.runs == (m.Opened.GetPid() != 0)
	case *worker.ToBroker_Exited:
		return s.opened && s.runs && !s.exited
	}
	panic("a packet of a later version")
}

// Every packet in every state: it is taken where the protocol has it, and
// otherwise ends the session, by name, and no other.
func TestEveryPacketInEveryState(t *testing.T) {
	f := startFakes(t)
	all := samples(t)
	for _, s := range stages() {
		t.Run(s.name, func(t *testing.T) {
			for _, m := range all {
				text := f.play(t, s, m.packet)
				broke := strings.Contains(text, "WorkerFailed")
				if s.loses { // nobody hears of what becomes of it
					if text != "kept" {
						t.Errorf("%s: the other one ended with %q", m.name, text)
					}
				} else if want := !s.allows(m.packet); broke != want {
					t.Errorf("%s: it broke the protocol: %v, want %v; the session ended with %q", m.name, broke, want, text)
				}
			}
		})
	}
	t.Run("it is idle", func(t *testing.T) {
		for _, m := range all {
			idle := f.dial(t)
			send(t, idle, hello())
			send(t, idle, m.packet)
			if _, err := idle.Receive(new(worker.ToWorker)); !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v, want an end of the connection", m.name, err)
			}
		}
	})
}

// play brings a session into a state, has its worker send a packet, and then end
// in order, if the broker still listens. It returns with what the session ended.
func (f *fakes) play(t *testing.T, s stage, packet *worker.ToBroker) string {
	t.Helper()
	p := f.arrange(t, s)
	_ = p.line.Send(packet)
	_ = p.line.Send(closing("kept")) // unless the broker has closed the connection
	if p.after != nil {
		p.after()
	}
	o := p.session()
	if o.err != nil {
		return o.err.Error() + " " + errorName(o.err)
	}
	_, _, text := f.wait(t, o.path, "closed")
	if p.answer != nil {
		<-p.answer // whatever it says
	}
	return text
}

func errorName(err error) string {
	var named dbus.Error
	errors.As(err, &named)
	return named.Name
}

// played is a session in a state.
type played struct {
	line    *line
	session func() opened
	after   func()       // what others do then
	answer  <-chan error // of who answers
}

func (f *fakes) arrange(t *testing.T, s stage) played {
	t.Helper()
	if s.side {
		return f.arrangeSide(t, s)
	}
	o := options{"linger": dbus.MakeVariant(true)}
	if s.runs {
		o["command"] = dbus.MakeVariant([]string{"true"})
	}
	p := played{line: f.dial(t)}
	send(t, p.line, hello())
	done := f.openWith(o)
	receive(t, p.line)
	if s.phase == none {
		p.session = func() opened { return <-done }
		return p
	}
	send(t, p.line, entering(worker.Phase_PHASE_START))
	session := <-done
	if session.err != nil {
		t.Fatal(session.err)
	}
	p.session = func() opened { return session }
	f.advance(t, s, &p, session.path)
	return p
}

// advance brings a session that has begun into a state.
func (f *fakes) advance(t *testing.T, s stage, p *played, path dbus.ObjectPath) {
	t.Helper()
	if s.opened {
		o := new(worker.Opened)
		if s.runs {
			o.Pid = 1 << 30
		}
		send(t, p.line, &worker.ToBroker{Message: &worker.ToBroker_Opened{Opened: o}})
	}
	if s.phase != worker.Phase_PHASE_START && s.phase != worker.Phase_PHASE_OPEN {
		send(t, p.line, entering(s.phase))
	}
	if s.resolved {
		send(t, p.line, &worker.ToBroker{Message: &worker.ToBroker_Resolved{Resolved: new(worker.Resolved)}})
	}
	if s.asks || s.answered {
		if s.opened {
			f.wait(t, path, "closing") // NextPrompt does not wait while it is open
		}
		send(t, p.line, prompting(0, worker.Style_STYLE_SECRET))
		number := f.prompt(t, path, 0)
		receive(t, p.line) // Numbered
		if s.answers || s.answered {
			answer := make(chan error, 1)
			go func() { answer <- manager(f.conn, "AnswerPrompt", number, "x").Err }()
			receive(t, p.line)
			p.answer = answer
		}
		if s.answered {
			send(t, p.line, &worker.ToBroker{Message: &worker.ToBroker_Taken{Taken: &worker.Taken{}}})
			if err := <-p.answer; err != nil {
				t.Fatal(err)
			}
			p.answer = nil
		}
	}
	if s.exited {
		send(t, p.line, &worker.ToBroker{Message: &worker.ToBroker_Exited{Exited: &worker.Exited{}}})
	}
	if s.told {
		if s.opened {
			f.wait(t, path, "open")
		}
		if err := session(f.conn, path, "Close").Err; err != nil {
			t.Fatal(err)
		}
		receive(t, p.line)
	}
}

// arrangeSide does so with one of two alternatives. Its connection is another
// process's: one that goes on by itself is killed.
func (f *fakes) arrangeSide(t *testing.T, s stage) played {
	t.Helper()
	raw := system.Packets(t, f.socket)
	c, err := worker.NewConn(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := played{line: &line{c, raw}}
	if s.ready {
		return f.arrangeReady(t, p)
	}
	other := f.dial(t)
	send(t, p.line, hello())
	send(t, other, hello())
	done := f.openWith(options{"linger": dbus.MakeVariant(true), "alternatives": dbus.MakeVariant([]string{"other"})})
	for _, c := range []*line{p.line, other} {
		receive(t, c)
		send(t, c, entering(worker.Phase_PHASE_START))
	}
	session := <-done
	if session.err != nil {
		t.Fatal(session.err)
	}
	p.session = func() opened { return session }
	f.advance(t, s, &p, session.path)
	isReady := &worker.ToBroker{Message: &worker.ToBroker_Ready{Ready: &worker.Ready{}}}
	switch {
	case s.proceeds:
		send(t, p.line, isReady)
		if receive(t, p.line).GetProceed() == nil {
			t.Fatal("it was told something else than to go on")
		}
		end(t, other)
	case s.loses:
		send(t, other, isReady)
		if receive(t, p.line).GetClose() == nil {
			t.Fatal("it was told something else than to close")
		}
		p.after = func() { send(t, other, closing("kept")) }
	default:
		p.after = func() { end(t, other) }
	}
	return p
}

// hear returns what is said of a session without a question.
func (f *fakes) hear(t *testing.T, path dbus.ObjectPath) <-chan string {
	t.Helper()
	conn, texts := f.Conn(t), make(chan string, 16)
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := manager(conn, "RegisterAgent", options{}).Err; err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(texts)
		for signal := range signals {
			if signal.Name == api.ManagerInterface+".Message" && signal.Body[0] == path && signal.Body[1] == api.StyleError {
				texts <- fmt.Sprint(signal.Body[2])
			}
		}
	}()
	return texts
}

// arrangeReady has a broker that has just started, as it were, take over an
// alternative that is ready: it goes on when the other one is there too, or the
// broker has waited long enough.
func (f *fakes) arrangeReady(t *testing.T, p played) played {
	t.Helper()
	f.taken++
	id := f.first - f.taken
	start := func(index uint32) *worker.Start {
		services := []string{"any", "other"}
		return &worker.Start{
			Session: id, Service: services[index], User: "root", Options: &worker.Options{Attempts: 1, Linger: true},
			Owner: &worker.Owner{Name: ":1.0"}, Alternative: &worker.Alternative{Index: index, Services: services},
		}
	}
	back := func(c *line, w *worker.Session) {
		send(t, c, &worker.ToBroker{Message: &worker.ToBroker_Hello{Hello: &worker.Hello{Version: worker.Version, Session: w}}})
	}
	path := dbus.ObjectPath(fmt.Sprint(api.SessionPrefix, id))
	texts := f.hear(t, path)
	back(p.line, &worker.Session{Start: start(0), Phase: worker.Phase_PHASE_ACCOUNT, Ready: true})
	p.session = func() opened { return opened{path: path} }
	p.after = func() {
		<-texts // it has ended
		other := f.dial(t)
		back(other, &worker.Session{Start: start(1), Phase: worker.Phase_PHASE_AUTHENTICATE})
		end(t, other)
	}
	return p
}
