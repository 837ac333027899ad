// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// start returns a Start with nothing wrong in it, changed.
func start(change func(*Start)) *Start {
	s := &Start{
		Session: 1, Service: "login", User: "anna",
		Options: &Options{Attempts: 1, Environment: []string{"A=", "B=c=d"}},
		Owner:   &Owner{Name: ":1.1"},
	}
	if change != nil {
		change(s)
	}
	return s
}

// command and in change a Start to one with a command.
func command(arguments ...string) func(*Start) {
	return func(s *Start) { s.Command = &Command{Arguments: arguments} }
}

func in(directory string) func(*Start) {
	return func(s *Start) { s.Command = &Command{Arguments: []string{"true"}, Directory: directory} }
}

// among makes a Start one of several alternatives.
func among(index uint32, services ...string) func(*Start) {
	return func(s *Start) { s.Alternative = &Alternative{Index: index, Services: services} }
}

// many is n times the same.
func many(value string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = value
	}
	return list
}

func toWorker(s *Start) *ToWorker { return &ToWorker{Message: &ToWorker_Start{Start: s}} }

func TestCheckStart(t *testing.T) {
	long := strings.Repeat("x", MaxString+1)
	for _, test := range []struct {
		name   string
		change func(*Start)
		ok     bool
	}{
		{"nothing wrong", nil, true},
		{"the longest names", func(s *Start) { s.Service, s.User = long[:MaxName], long[:MaxName] }, true},
		{"no session", func(s *Start) { s.Session = 0 }, false},
		{"no service", func(s *Start) { s.Service = "" }, false},
		{"no user", func(s *Start) { s.User = "" }, false},
		{"no options", func(s *Start) { s.Options = nil }, false},
		{"no owner", func(s *Start) { s.Owner = nil }, false},
		{"a service that is too long", func(s *Start) { s.Service = long[:MaxName+1] }, false},
		{"a user that is too long", func(s *Start) { s.User = long[:MaxName+1] }, false},
		{"a user with a NUL", func(s *Start) { s.User = "an\x00na" }, false},
		{"an owner's name that is too long", func(s *Start) { s.Owner.Name = long }, false},
		{"a bus that is too long", func(s *Start) { s.Owner.BusId = long }, false},
		{"a unit that is too long", func(s *Start) { s.Owner.Unit = long }, false},
		{"a comm that is too long", func(s *Start) { s.Owner.Comm = long }, false},
		{"a tty that is too long", func(s *Start) { s.Options.Tty = long }, false},
		{"a host that is too long", func(s *Start) { s.Options.Rhost = long }, false},
		{"a remote user with a NUL", func(s *Start) { s.Options.Ruser = "\x00" }, false},
		{"a display that is too long", func(s *Start) { s.Options.Xdisplay = long }, false},
		{"a reason that is too long", func(s *Start) { s.Options.Reason = long }, false},
		{"a locale that is too long", func(s *Start) { s.Options.Locale = long }, false},
		{"an ask-password that is too long", func(s *Start) { s.Options.AskPassword = long }, false},
		{"an owner who is nobody at all", func(s *Start) { s.Owner.Uid = math.MaxUint32 }, false},
		{"an owner with the largest uid", func(s *Start) { s.Owner.Uid = math.MaxUint32 - 1 }, true},
		{"a user whose uid is known", func(s *Start) { s.UserUid = proto.Uint32(0) }, true},
		{"a user whose uid is none", func(s *Start) { s.UserUid = proto.Uint32(math.MaxUint32) }, false},
		{"a command", command("/bin/true", "", "a\nb"), true},
		{"a command by its name", command("true"), true},
		{"a command of most arguments", command(many("x", MaxArguments)...), true},
		{"a command of too many arguments", command(many("x", MaxArguments+1)...), false},
		{"a command that just fits", command(strings.Repeat("x", MaxCommand-1)), true},
		{"a command that is too long", command(strings.Repeat("x", MaxCommand)), false},
		{"a command without arguments", command(), false},
		{"a command of nothing", command(""), false},
		{"a command by a relative path", command("bin/true"), false},
		{"a command with a NUL", command("true", "a\x00b"), false},
		{"a command at home", in("~"), true},
		{"a command below home", in("~/src"), true},
		{"a command in a directory", in("/srv"), true},
		{"a command in a relative directory", in("srv"), false},
		{"a command in somebody else's home", in("~root"), false},
		{"a command in a directory with a NUL", in("/a\x00b"), false},
		{"a command in a directory that is too long", in("/" + long), false},
		{"a command on a terminal", func(s *Start) {
			s.Command = &Command{Arguments: []string{"true"}, Stdio: true, Terminal: true}
		}, true},
		{"a command on no terminal", func(s *Start) { s.Command = &Command{Arguments: []string{"true"}, Terminal: true} }, false},
		{"a login shell", func(s *Start) { s.Command = &Command{LoginShell: true, Directory: "~"} }, true},
		{"a login shell with arguments", func(s *Start) { s.Command = &Command{LoginShell: true, Arguments: []string{"true"}} }, false},
		{"a login shell in a relative directory", func(s *Start) { s.Command = &Command{LoginShell: true, Directory: "srv"} }, false},
		{"a login shell with an environment that is too long", func(s *Start) {
			s.Command = &Command{LoginShell: true, Environment: []string{"A=" + strings.Repeat("x", MaxCommand-2)}}
		}, false},
		{"a command with an environment", environment("A=1", "A="), true},
		{"a command with a variable without a value", environment("A"), false},
		{"a command with a variable without a name", environment("=1"), false},
		{"a command with a variable with a NUL", environment("A=\x00"), false},
		{"arguments and environment that just fit", environment("A=" + strings.Repeat("x", MaxCommand-len("true")-4)), true},
		{"arguments and environment that do not", environment("A=" + strings.Repeat("x", MaxCommand-len("true")-3)), false},
		{"one of two alternatives", among(0, "login", "finger"), true},
		{"the last of most alternatives", among(7, "a", "b", "c", "d", "e", "f", "g", "login"), true},
		{"one of too many alternatives", among(8, "a", "b", "c", "d", "e", "f", "g", "h", "login"), false},
		{"an alternative to nothing", among(0, "login"), false},
		{"an alternative of another service", among(1, "login", "finger"), false},
		{"an alternative beyond the last", among(2, "login", "finger"), false},
		{"an alternative that is there twice", among(0, "login", "login"), false},
		{"an alternative without a name", among(0, "login", ""), false},
		{"an alternative with a name that is too long", among(0, "login", long[:MaxName+1]), false},
		{"an alternative with a NUL", among(0, "login", "a\x00"), false},
		{"an alternative that does not authenticate", func(s *Start) {
			among(0, "login", "finger")(s)
			s.Options.Phases = []Phase{Phase_PHASE_ACCOUNT}
		}, false},
		{"no attempts", func(s *Start) { s.Options.Attempts = 0 }, false},
		{"16 attempts", func(s *Start) { s.Options.Attempts = 16 }, true},
		{"17 attempts", func(s *Start) { s.Options.Attempts = 17 }, false},
		{"five phases", func(s *Start) { s.Options.Phases = make([]Phase, 5) }, false},
		{"a variable without a value", func(s *Start) { s.Options.Environment = []string{"A"} }, false},
		{"a variable without a name", func(s *Start) { s.Options.Environment = []string{"=a"} }, false},
		{"a variable with a NUL", func(s *Start) { s.Options.Environment = []string{"A=\x00"} }, false},
		{"an environment that just fits", func(s *Start) { s.Options.Environment = []string{"A=" + strings.Repeat("x", MaxEnvironment-3)} }, true},
		{"an environment that is too large", func(s *Start) { s.Options.Environment = []string{"A=" + strings.Repeat("x", MaxEnvironment-2)} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(test.change)
			want(t, test.ok, toWorker(s))
			want(t, test.ok, hello(&Session{Start: s, Phase: Phase_PHASE_OPEN}))
		})
	}
}

func hello(s *Session) *ToBroker {
	return &ToBroker{Message: &ToBroker_Hello{Hello: &Hello{Version: 1, Session: s}}}
}

func want(t *testing.T, ok bool, m proto.Message) {
	t.Helper()
	err := Check(m)
	if (err == nil) != ok || (err != nil && !errors.Is(err, ErrMalformed)) {
		t.Errorf("the error is %v", err)
	}
}

func signal(target Target, number uint32) *ToWorker {
	return &ToWorker{Message: &ToWorker_Signal{Signal: &Signal{Target: target, Signal: number}}}
}

func environment(entries ...string) func(*Start) {
	return func(s *Start) { s.Command = &Command{Arguments: []string{"true"}, Environment: entries} }
}

func TestCheckToWorker(t *testing.T) {
	later := new(ToWorker)
	later.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 1, 'x'})
	for _, test := range []struct {
		name string
		m    proto.Message
		ok   bool
	}{
		{"Close", closePacket(), true},
		{"Cancel", &ToWorker{Message: &ToWorker_Cancel{Cancel: &Cancel{Index: 7}}}, true},
		{"Proceed", &ToWorker{Message: &ToWorker_Proceed{Proceed: &Proceed{}}}, true},
		{"Answer", &ToWorker{Message: &ToWorker_Answer{Answer: &Answer{}}}, true},
		{"Numbered", &ToWorker{Message: &ToWorker_Numbered{Numbered: &Numbered{Number: 1}}}, true},
		{"a number of 0", &ToWorker{Message: &ToWorker_Numbered{Numbered: &Numbered{}}}, false},
		{"Resolve", &ToWorker{Message: &ToWorker_Resolve{Resolve: &Resolve{}}}, true},
		{"Resolve of a uid above INT_MAX", &ToWorker{Message: &ToWorker_Resolve{Resolve: &Resolve{Uid: 1 << 31}}}, true},
		{"Resolve of what is no uid", &ToWorker{Message: &ToWorker_Resolve{Resolve: &Resolve{Uid: math.MaxUint32}}}, false},
		{"Sweep", &ToWorker{Message: &ToWorker_Sweep{Sweep: &Sweep{Uid: 1000}}}, true},
		{"Sweep for what is no uid", &ToWorker{Message: &ToWorker_Sweep{Sweep: &Sweep{Uid: math.MaxUint32}}}, false},
		{"Signal", signal(Target_TARGET_GROUP, 15), true},
		{"Signal to a target of a later version", signal(99, 64), true},
		{"Signal to nobody", signal(Target_TARGET_UNSPECIFIED, 15), false},
		{"Signal 0", signal(Target_TARGET_ALL, 0), false},
		{"Signal 65", signal(Target_TARGET_ALL, 65), false},
		{"a message of a later version", later, true},
		{"nothing", new(ToWorker), false},
		{"what is no packet", new(Start), false},
	} {
		t.Run(test.name, func(t *testing.T) { want(t, test.ok, test.m) })
	}
}

func helloAmong(ready, proceeds bool) *ToBroker_Hello {
	return &ToBroker_Hello{&Hello{Version: 2, Session: &Session{
		Start: start(among(0, "login", "finger")), Phase: Phase_PHASE_ACCOUNT, Ready: ready, Proceeds: proceeds,
	}}}
}

func TestCheckToBroker(t *testing.T) {
	prompt := func(change func(*Prompt)) *Prompt {
		p := &Prompt{Style: Style_STYLE_SECRET, Phase: Phase_PHASE_AUTHENTICATE}
		change(p)
		return p
	}
	session := func(change func(*Session)) *Session {
		s := &Session{Start: start(nil), Phase: Phase_PHASE_OPEN}
		change(s)
		return s
	}
	later := new(ToBroker)
	later.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 1, 'x'})
	for _, test := range []struct {
		name string
		m    isToBroker_Message
		ok   bool
	}{
		{"Ready", &ToBroker_Ready{&Ready{}}, true},
		{"Hello of an alternative that is ready", helloAmong(true, false), true},
		{"Hello of an alternative that goes on", helloAmong(true, true), true},
		{"Hello of an alternative that goes on and was not ready", helloAmong(false, true), false},
		{"Hello of the only transaction that is ready", &ToBroker_Hello{&Hello{Version: 2, Session: session(func(s *Session) { s.Ready = true })}}, false},
		{"an idle Hello", &ToBroker_Hello{&Hello{Version: 1}}, true},
		{"a Hello of a later version", &ToBroker_Hello{&Hello{Version: 99}}, true},
		{"a Hello without a version", &ToBroker_Hello{&Hello{}}, false},
		{"a session without its start", &ToBroker_Hello{&Hello{Version: 1, Session: &Session{Phase: Phase_PHASE_OPEN}}}, false},
		{"a session in no phase", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) { s.Phase = 0 })}}, false},
		{"a session that is being closed", &ToBroker_Hello{&Hello{Version: 2, Session: session(func(s *Session) { s.Closing = true })}}, true},
		{"a session that is being closed and asks", &ToBroker_Hello{&Hello{Version: 2, Session: session(func(s *Session) {
			s.Closing, s.Prompt = true, prompt(func(*Prompt) {})
		})}}, false},
		{"a session with a prompt that is none", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) { s.Prompt = &Prompt{} })}}, false},
		{"a session that closed and failed", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) {
			s.Closed, s.Failed = &Closed{}, &Failed{Error: "PAMFailed"}
		})}}, false},
		{"a session that failed without saying how", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) { s.Failed = &Failed{} })}}, false},
		{"a session with too large an environment", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) {
			s.Opened = &Opened{Environment: [][]byte{make([]byte, MaxEnvironment)}}
		})}}, false},
		{"a session that closed", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) { s.Closed = &Closed{} })}}, true},
		{"Entering", &ToBroker_Entering{&Entering{Phase: Phase_PHASE_END}}, true},
		{"Entering a phase of a later version", &ToBroker_Entering{&Entering{Phase: 65}}, true},
		{"Entering no phase", &ToBroker_Entering{&Entering{}}, false},
		{"Entering a phase that cannot be", &ToBroker_Entering{&Entering{Phase: 101}}, false},
		{"Resolved", &ToBroker_Resolved{&Resolved{}}, true},
		{"Resolved as nobody", &ToBroker_Resolved{&Resolved{Uid: 1<<32 - 1}}, false},
		{"Taken", &ToBroker_Taken{&Taken{}}, true},
		{"Taken with too long an error", &ToBroker_Taken{&Taken{Error: strings.Repeat("x", MaxName+1)}}, false},
		{"Taken with too long a text", &ToBroker_Taken{&Taken{Text: strings.Repeat("x", MaxString+1)}}, false},
		{"Withdrawn", &ToBroker_Withdrawn{&Withdrawn{Outcome: Outcome_OUTCOME_EXPIRED}}, true},
		{"Withdrawn without an outcome", &ToBroker_Withdrawn{&Withdrawn{}}, false},
		{"a text", &ToBroker_Text{&Message{Style: Style_STYLE_ERROR, Text: make([]byte, MaxText)}}, true},
		{"a text that is too long", &ToBroker_Text{&Message{Style: Style_STYLE_ERROR, Text: make([]byte, MaxText+1)}}, false},
		{"a text in a style of questions", &ToBroker_Text{&Message{Style: Style_STYLE_SECRET}}, false},
		{"a prompt", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Text, p.Messages = make([]byte, MaxText), []*Message{{Style: Style_STYLE_INFO}} })}, true},
		{"a prompt in a style of texts", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Style = Style_STYLE_INFO })}, false},
		{"a prompt that is too long", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Text = make([]byte, MaxText+1) })}, false},
		{"a binary prompt that is too long", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Binary = make([]byte, MaxBinary+1) })}, false},
		{"a prompt with too many choices", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Choices = make([]string, MaxChoices+1) })}, false},
		{"a prompt with too long a choice", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Choices = []string{strings.Repeat("x", MaxString+1)} })}, false},
		{"a prompt after too many messages", &ToBroker_Prompt{prompt(func(p *Prompt) {
			for range MaxMessages + 1 {
				p.Messages = append(p.Messages, &Message{Style: Style_STYLE_INFO})
			}
		})}, false},
		{"a prompt after too long messages", &ToBroker_Prompt{prompt(func(p *Prompt) {
			half := &Message{Style: Style_STYLE_INFO, Text: make([]byte, MaxMessagesSize/2+1)}
			p.Messages = []*Message{half, half}
		})}, false},
		{"a prompt after a question", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Messages = []*Message{{Style: Style_STYLE_SECRET}} })}, false},
		{"a prompt in no phase", &ToBroker_Prompt{prompt(func(p *Prompt) { p.Phase = 0 })}, false},
		{"Opened", &ToBroker_Opened{&Opened{Environment: [][]byte{make([]byte, MaxEnvironment-1)}}}, true},
		{"Opened with too large an environment", &ToBroker_Opened{&Opened{Environment: [][]byte{make([]byte, MaxEnvironment)}}}, false},
		{"Opened with a command", &ToBroker_Opened{&Opened{Pid: math.MaxInt32}}, true},
		{"Opened with what is no process", &ToBroker_Opened{&Opened{Pid: math.MaxInt32 + 1}}, false},
		{"Exited", &ToBroker_Exited{&Exited{Status: 255}}, true},
		{"Exited by a signal", &ToBroker_Exited{&Exited{Signal: 64}}, true},
		{"Exited with a status that cannot be", &ToBroker_Exited{&Exited{Status: 256}}, false},
		{"Exited by no signal there is", &ToBroker_Exited{&Exited{Signal: 65}}, false},
		{"Exited by both", &ToBroker_Exited{&Exited{Status: 1, Signal: 1}}, false},
		{"a session whose command ended as none can", &ToBroker_Hello{&Hello{Version: 1, Session: session(func(s *Session) { s.Exited = &Exited{Status: 256} })}}, false},
		{"Closed", &ToBroker_Closed{&Closed{Text: make([]byte, MaxString)}}, true},
		{"Closed with too long a text", &ToBroker_Closed{&Closed{Text: make([]byte, MaxString+1)}}, false},
		{"Failed", &ToBroker_Failed{&Failed{Error: "PAMFailed"}}, true},
		{"Failed without an error", &ToBroker_Failed{&Failed{}}, false},
		{"Failed with too long an error", &ToBroker_Failed{&Failed{Error: strings.Repeat("x", MaxName+1)}}, false},
		{"Failed with too long a text", &ToBroker_Failed{&Failed{Error: "PAMFailed", Text: make([]byte, MaxString+1)}}, false},
		{"Name", &ToBroker_Name{&Name{Uid: 1000, Name: strings.Repeat("x", MaxName)}}, true},
		{"Name of nobody", &ToBroker_Name{&Name{}}, true},
		{"Name that is too long", &ToBroker_Name{&Name{Name: strings.Repeat("x", MaxName+1)}}, false},
		{"Name with a NUL", &ToBroker_Name{&Name{Name: "an\x00na"}}, false},
		{"Name of what is no uid", &ToBroker_Name{&Name{Uid: math.MaxUint32}}, false},
		{"nothing", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) { want(t, test.ok, &ToBroker{Message: test.m}) })
	}
	t.Run("a message of a later version", func(t *testing.T) { want(t, true, later) })
}

func TestWhichStylesAsk(t *testing.T) {
	for number, name := range Style_name {
		ask := name == "STYLE_SECRET" || name == "STYLE_VISIBLE" || name == "STYLE_CHOICE" || name == "STYLE_BINARY"
		if Style(number).Asks() != ask {
			t.Errorf("that %s asks is %v", name, !ask)
		}
	}
}

// FuzzDecode: whatever comes off a socket is decoded within its bounds or
// refused, and what was decoded is the same after another way over the wire.
func FuzzDecode(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzDecode"); err != nil || len(seeds) == 0 {
		f.Fatalf("testdata/fuzz/FuzzDecode has no seeds (%v)", err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		roundTrip(t, packet, new(ToWorker), new(ToWorker))
		roundTrip(t, packet, new(ToBroker), new(ToBroker))
	})
}

func roundTrip(t *testing.T, packet []byte, first, second proto.Message) {
	t.Helper()
	if err := Decode(packet, first); err != nil {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("the error %v does not say that the packet is malformed", err)
		}
		return
	}
	again, err := proto.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if len(again) > MaxPacket {
		return // varints may have been shorter than they have to be; Send refuses it
	}
	if err := Decode(again, second); err != nil {
		t.Errorf("what was taken is refused the second time: %v", err)
	}
}
