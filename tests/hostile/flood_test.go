// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// blocks is how often idle and flood alternate; the medians are of all samples.
const blocks = 5

// lists is how many samples of ListPrompts are in a block, beside one session.
const lists = 5

// callsOfASession is how many calls sample makes for a session, one after the other.
const callsOfASession = 6

// What is measured.
const (
	aList    = "ListPrompts"
	aSession = "a session"
)

// flood is what one uid does as fast as it can.
type flood struct {
	name  string
	conns int
	waits bool // for the reply, before the next call
	with  bool // with a descriptor
	short bool // is one of those that are always tried
	message
}

type message struct {
	to     string
	kind   dbus.Type
	member string
	args   []any
	flags  dbus.Flags
}

func managerCall(member string, flags dbus.Flags, args ...any) message {
	return message{api.BusName, dbus.TypeMethodCall, api.ManagerInterface + "." + member, args, flags}
}

func floods() []flood {
	none := map[string]dbus.Variant{}
	const noReply = dbus.FlagNoReplyExpected
	list := managerCall("ListPrompts", 0)
	answer := managerCall("AnswerPrompt", 0, uint64(4711), "x")
	signal := message{api.BusName, dbus.TypeSignal, "org.example.Hello", []any{"hello"}, noReply}
	bus := message{"org.freedesktop.DBus", dbus.TypeMethodCall, "org.freedesktop.DBus.GetId", nil, 0}
	all := []flood{
		// What the broker never sees is to compare with: that much is the bus's.
		{"calls of the bus alone on one, not waiting", 1, false, false, true, bus},
		{"calls of the bus alone on eight, not waiting", 8, false, false, false, bus},
		{"Ping on one, waiting", 1, true, false, false, message{api.BusName, dbus.TypeMethodCall, "org.freedesktop.DBus.Peer.Ping", nil, 0}},
		{"ListPrompts on eight, waiting", 8, true, false, true, list},
		{"ListPrompts on eight, not waiting", 8, false, false, false, list},
		{"AnswerPrompt of nothing on eight, waiting", 8, true, false, false, answer},
		{"AnswerPrompt of nothing on one, wanting no reply", 1, false, false, true, managerCall("AnswerPrompt", noReply, uint64(4711), "x")},
		{"AnswerPrompt of nothing on eight, wanting no reply", 8, false, false, false, managerCall("AnswerPrompt", noReply, uint64(4711), "x")},
		{"OpenSession over the limit on eight, waiting", 8, true, false, false, managerCall("OpenSession", 0, "vault", "root", none)},
		{"RegisterAgent on eight, not waiting", 8, false, false, false, managerCall("RegisterAgent", 0, none)},
		{"a signal on one", 1, false, false, true, signal},
		{"a signal on eight", 8, false, false, false, signal},
		{"AnswerPromptFD of nothing on eight, waiting", 8, true, true, false, managerCall("AnswerPromptFD", 0, uint64(4711), dbus.UnixFDIndex(0))},
		{"GetManagedObjects on eight, not waiting", 8, false, false, false, message{api.BusName, dbus.TypeMethodCall, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", nil, 0}},
	}
	if os.Getenv("PAMPROMPT_FLOOD") == "" {
		all = slices.DeleteFunc(all, func(f flood) bool { return !f.short })
	}
	return all
}

// encode makes the message once: whoever floods does nothing but write.
func (f flood) encode(t *testing.T) []byte {
	t.Helper()
	dot := strings.LastIndexByte(f.member, '.')
	m := &dbus.Message{Type: f.kind, Flags: f.flags, Body: f.args, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(f.to),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(api.RootPath)),
		dbus.FieldInterface:   dbus.MakeVariant(f.member[:dot]),
		dbus.FieldMember:      dbus.MakeVariant(f.member[dot+1:]),
	}}
	if len(f.args) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(f.args...))
	}
	if f.with {
		m.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(1))
	}
	var raw bytes.Buffer
	if err := m.EncodeTo(&raw, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(raw.Bytes()[8:], 2) // the serial; 1 is of Hello
	return raw.Bytes()
}

// greet authenticates on a new connection to a bus, says hello and returns its name.
func greet(t testing.TB, c *net.UnixConn, who system.Identity) (name string) {
	t.Helper()
	say := func(text, want string) {
		t.Helper()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 256)
		if n, err := c.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), want) {
			t.Fatalf("the bus says %q, %v", line[:n], err)
		}
	}
	say("\x00AUTH EXTERNAL "+hex.EncodeToString(strconv.AppendUint(nil, uint64(who.UID), 10))+"\r\n", "OK")
	say("NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD")
	var raw bytes.Buffer
	hello := &dbus.Message{Type: dbus.TypeMethodCall, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant("org.freedesktop.DBus"),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface:   dbus.MakeVariant("org.freedesktop.DBus"),
		dbus.FieldMember:      dbus.MakeVariant("Hello"),
	}}
	if err := hello.EncodeTo(&raw, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(raw.Bytes()[8:], 1)
	if _, err := c.Write(append([]byte("BEGIN\r\n"), raw.Bytes()...)); err != nil {
		t.Fatal(err)
	}
	for seen := false; !seen; { // its reply, and NameAcquired
		m, err := dbus.DecodeMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		seen = m.Type == dbus.TypeSignal
		if m.Type == dbus.TypeMethodReply {
			name = m.Body[0].(string)
		}
	}
	return name
}

// flooder is one uid's connections, which write while they are told to.
type flooder struct {
	sent  atomic.Int64
	on    atomic.Bool
	start []chan struct{}
	idle  sync.WaitGroup // of those that write
	ended sync.WaitGroup
}

func (b *bench) flooder(f flood, who system.Identity) *flooder {
	b.t.Helper()
	raw, null := f.encode(b.t), (*os.File)(nil)
	if f.with {
		var err error
		if null, err = os.Open("/dev/null"); err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = null.Close() })
	}
	fl := new(flooder)
	for range f.conns {
		c := system.Socket(b.t, b.Address, who)
		greet(b.t, c, who)
		start, read := make(chan struct{}), make(chan struct{}, 1<<16)
		fl.start = append(fl.start, start)
		fl.ended.Go(func() { fl.read(c, read) })
		fl.ended.Go(func() {
			defer func() { _ = c.Close() }()
			for range start {
				fl.write(c, raw, null, f.waits, read)
				fl.idle.Done()
			}
		})
	}
	return fl
}

// read takes what comes, and tells of each reply.
func (fl *flooder) read(c *net.UnixConn, each chan<- struct{}) {
	defer close(each)
	fixed := make([]byte, 16)
	for {
		if _, err := io.ReadFull(c, fixed); err != nil {
			return
		}
		fields, body := binary.LittleEndian.Uint32(fixed[12:]), binary.LittleEndian.Uint32(fixed[4:])
		if _, err := io.CopyN(io.Discard, c, int64((fields+7)&^7+body)); err != nil {
			return
		}
		if t := dbus.Type(fixed[1]); t == dbus.TypeMethodReply || t == dbus.TypeError {
			select {
			case each <- struct{}{}:
			default:
			}
		}
	}
}

func (fl *flooder) write(c *net.UnixConn, raw []byte, with *os.File, waits bool, replies <-chan struct{}) {
	for fl.on.Load() {
		var err error
		if with != nil {
			_, _, err = c.WriteMsgUnix(raw, unix.UnixRights(int(with.Fd())), nil)
		} else {
			_, err = c.Write(raw)
		}
		if err != nil {
			return // the bus has had enough
		}
		fl.sent.Add(1)
		if waits {
			if _, there := <-replies; !there {
				return
			}
		}
	}
}

func (fl *flooder) run() {
	fl.on.Store(true)
	fl.idle.Add(len(fl.start))
	for _, c := range fl.start {
		c <- struct{}{}
	}
}

// close ends it, with its connections.
func (fl *flooder) close() {
	for _, c := range fl.start {
		close(c)
	}
	fl.ended.Wait()
}

func (fl *flooder) pause() {
	fl.on.Store(false)
	fl.idle.Wait()
}

// measured are how long things took that somebody else did.
type measured struct {
	list, session []time.Duration
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// sample has one uid list prompts, and root have a session, from its opening over
// an answer to its end.
func (b *bench) sample(other *dbus.Conn, into *measured) {
	b.t.Helper()
	for range lists {
		before := time.Now()
		b.must(b.call(other, api.RootPath, api.ManagerInterface+".ListPrompts"), new([][]any))
		into.list = append(into.list, time.Since(before))
	}
	var id, prompt uint64
	var path dbus.ObjectPath
	var style, text string
	details := map[string]dbus.Variant{}
	before := time.Now()
	b.must(b.call(b.root, api.RootPath, api.ManagerInterface+".OpenSession", "vault", "root", details), &id, &path)
	b.must(b.call(b.root, path, api.SessionInterface+".NextPrompt", uint64(0)), &prompt, &style, &text, &details)
	b.must(b.call(b.root, api.RootPath, api.ManagerInterface+".AnswerPrompt", prompt, "right"))
	if state := b.wait(path, api.StateOpen); state != api.StateOpen {
		b.t.Errorf("with its answer it is %s", state)
	}
	b.must(b.call(b.root, path, api.SessionInterface+".Close"))
	b.wait(path, api.StateClosed)
	into.session = append(into.session, time.Since(before))
}

// A uid that floods the broker does not keep others from it. What it costs them is
// printed. With PAMPROMPT_FLOOD=1 all floods are tried, on both buses, and more than
// twice the time is a failure: twice the idle one where the flood waits for its
// replies, else twice what the bus itself makes of a flood as wide: of one for the bus
// alone where replies are wanted, or where the bus throws it away, and where none are
// wanted, of one for somebody who does nothing but read.
func TestAFloodLeavesOthersAlone(t *testing.T) {
	for _, bus := range system.Buses {
		if bus != system.DBusDaemon && os.Getenv("PAMPROMPT_FLOOD") == "" {
			continue // most systems have that one, and it is enough to see that nobody starves
		}
		t.Run(string(bus), func(t *testing.T) {
			b := startOn(t, bus)
			b.floods()
		})
	}
}

func (b *bench) floods() {
	t := b.t
	kept := b.set(b.root)
	other := b.Join(t, system.Other).Conn
	broker, before := b.broker()
	var daemon uint32
	b.must(b.root.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus"), &daemon)
	b.sample(other, new(measured)) // the first of each is slower
	var all []cost
	busAlone, drained := make(map[control]float64), make(map[int]map[string]time.Duration)
	for _, f := range floods() {
		fl := b.flooder(f, system.Opener)
		var idle, during measured
		var busCPU, brokerCPU, wall time.Duration
		for range blocks {
			b.sample(other, &idle)
			d, br, since := system.ProcessorTime(t, int(daemon)), system.ProcessorTime(t, int(broker)), time.Now()
			fl.run()
			b.sample(other, &during)
			fl.pause()
			busCPU, brokerCPU, wall = busCPU+system.ProcessorTime(t, int(daemon))-d, brokerCPU+system.ProcessorTime(t, int(broker))-br, wall+time.Since(since)
		}
		fl.close()
		for _, c := range []cost{
			{f, aList, median(idle.list), median(during.list)},
			{f, aSession, median(idle.session), median(during.session)},
		} {
			t.Attr("saw", fmt.Sprintf("%s: %s takes another uid %v, %v idle: %.1f times; %.0f messages a second, processor: bus %d %%, broker %d %%",
				f.name, c.what, c.loud.Round(10*time.Microsecond), c.quiet.Round(10*time.Microsecond), c.ratio(),
				float64(fl.sent.Load())/wall.Seconds(), 100*busCPU/wall, 100*brokerCPU/wall))
			if f.to != api.BusName {
				busAlone[control{c.what, f.conns}] = c.ratio()
			}
			all = append(all, c)
		}
		if _, known := drained[f.conns]; !known && f.unanswered() {
			drained[f.conns] = b.drained(other, f.conns, median(during.list), median(during.session))
		}
	}
	for _, c := range all { // whichever of them came first
		most := 2 * c.quiet
		if alone, known := busAlone[control{c.what, c.conns}]; known && !c.waits {
			most = max(most, time.Duration(2*alone*float64(c.quiet)))
		} else if !c.waits {
			t.Errorf("%s: no flood of as many connections is for the bus alone", c.name)
		}
		if c.unanswered() {
			most = max(most, 2*(c.quiet+drained[c.conns][c.what]))
		}
		if c.loud > most && os.Getenv("PAMPROMPT_FLOOD") == "1" {
			t.Errorf("%s: %s takes %v, %.1f times as long as idle, and at most %v is the bus's doing", c.name, c.what, c.loud, c.ratio(), most)
		}
	}
	b.survived(kept)
	if now, after := b.broker(); now != broker || after > before+slack {
		t.Errorf("the broker was process %d with %d descriptors, and is %d with %d", broker, before, now, after)
	}
}
