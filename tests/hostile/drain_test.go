// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/tests/system"
)

// drain is a connection of root's that reads all it can and does nothing else: no
// service on that bus can be told of something sooner. What others wait for while
// somebody floods it is the bus's own doing. dbus-broker, which writes 16 messages to a
// connection whenever it has read what there is of each sender (SOCKET_MMSG_MAX), keeps
// a queue that grows, however fast the other end reads.
type drain struct {
	name string
	came chan string
	sent int // signals to it
}

func (b *bench) drain() *drain {
	b.t.Helper()
	c := system.Socket(b.t, b.Address, system.Identity{})
	d := &drain{greet(b.t, c, system.Identity{}), make(chan string, 1), 0}
	go d.read(c)
	return d
}

// mark is the only text that a drain looks for, and a number follows it.
const mark, markSize = "a mark, number ", len("a mark, number 0000")

// read ends with the connection.
func (d *drain) read(c *net.UnixConn) {
	buf, kept := make([]byte, 1<<18), 0
	for {
		n, err := c.Read(buf[kept:])
		if err != nil {
			close(d.came)
			return
		}
		n += kept
		if i := bytes.Index(buf[:n], []byte(mark)); i >= 0 && i+markSize <= n {
			d.came <- string(buf[i : i+markSize])
			kept = 0
			continue
		}
		kept = min(n, markSize)
		copy(buf, buf[n-kept:n])
	}
}

// arrival is how long a signal of somebody else's takes to a drain.
func (d *drain) arrival(t testing.TB, from *dbus.Conn) time.Duration {
	t.Helper()
	d.sent++
	text := fmt.Sprintf(mark+"%04d", d.sent)
	before := time.Now()
	from.Send(&dbus.Message{Type: dbus.TypeSignal, Body: []any{text}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(d.name), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/")),
		dbus.FieldInterface: dbus.MakeVariant("org.example"), dbus.FieldMember: dbus.MakeVariant("Mark"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(text)),
	}}, nil)
	if got := <-d.came; got != text {
		t.Fatalf("%q came, not %q", got, text)
	}
	return time.Since(before)
}

// longest is how long a drain is flooded at a time: no queue grows any more then.
const longest = 5 * time.Second

// drained floods a drain as the broker is, and as long: what waits at the bus grows with
// time. Meanwhile somebody else sends it signals, one after the other. What a list, and
// the calls of a session, cost there is returned.
func (b *bench) drained(other *dbus.Conn, conns int, list, session time.Duration) map[string]time.Duration {
	b.t.Helper()
	d := b.drain()
	fl := b.flooder(flood{conns: conns, message: message{d.name, dbus.TypeSignal, "org.example.Hello", []any{uint64(4711), "x"}, dbus.FlagNoReplyExpected}}, system.Opener)
	var all measured
	arrivals := func(into *[]time.Duration, long time.Duration) {
		var last time.Duration // of those before the queue is long there are many more
		for end := time.Now().Add(min(long, longest)); time.Now().Before(end); {
			last = d.arrival(b.t, other)
		}
		*into = append(*into, last)
	}
	for range blocks {
		fl.run()
		arrivals(&all.list, lists*list)
		arrivals(&all.session, session)
		fl.pause()
	}
	fl.close()
	costs := map[string]time.Duration{aList: median(all.list), aSession: callsOfASession * median(all.session)}
	b.t.Attr("saw", fmt.Sprintf("a reader that does nothing, flooded on %d: a signal of another uid takes %v, and %d of them %v",
		conns, costs[aList].Round(10*time.Microsecond), callsOfASession, costs[aSession].Round(10*time.Microsecond)))
	return costs
}

// cost is what a flood costs somebody else.
type cost struct {
	flood
	what        string
	quiet, loud time.Duration
}

func (c cost) ratio() float64 { return float64(c.loud) / float64(c.quiet) }

// unanswered is a flood that the bus passes on and does not count, as it does calls
// whose reply is due.
func (f flood) unanswered() bool {
	return f.kind == dbus.TypeMethodCall && f.flags&dbus.FlagNoReplyExpected != 0
}

// control says which flood of the bus alone others are compared with.
type control struct {
	what  string
	conns int
}
