// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/transport"
	"github.com/pamprompt/pamprompt/tests/dbusdaemon"
)

const testName = "org.pamprompt.Test1"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startBus starts a dbus-daemon that lets everything through, also what the
// shipped policies stop: our own limits must hold without them.
func startBus(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	return dbusdaemon.Start(t, dir, `<busconfig><type>session</type><listen>unix:path=`+filepath.Join(dir, "bus")+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy>
<limit name="max_message_size">67108864</limit><limit name="max_incoming_bytes">134217728</limit>
<limit name="max_outgoing_bytes">134217728</limit><limit name="max_replies_per_connection">50000</limit><limit name="max_message_unix_fds">64</limit></busconfig>`)
}

func serveOn(t testing.TB, address string, o Options) *Conn {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Gone == nil {
		o.Gone = func(*Peer) {}
	}
	c, err := Dial(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Own(t.Context(), testName); err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t testing.TB, address string) *dbus.Conn {
	t.Helper()
	c, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func nothing(context.Context, *Call) ([]any, error) { return nil, nil }

func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// godbus closes no descriptor that no handler takes, and for those that a body
// does not even mention nobody knows the number. Ten thousand calls, of every
// kind that can carry descriptors, must leave none behind.
func TestDescriptorsThatNoMemberTakesAreClosed(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: func(_ context.Context, c *Call) ([]any, error) {
		if c.Member == "Panic" {
			panic("as asked")
		}
		if c.Member == "Fail" {
			return nil, errors.New("as asked")
		}
		return nil, nil
	}})
	client := connect(t, address)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fd := dbus.UnixFD(f.Fd())
	object := client.Object(testName, "/")
	kinds := []func() error{
		func() error { return object.Call(testName+".Plain", 0, fd).Err },
		func() error { return object.Call(testName+".Plain", 0, []dbus.UnixFD{fd, fd, fd}).Err },
		func() error {
			return object.Call(testName+".Plain", 0, map[string]dbus.Variant{"x": dbus.MakeVariant(fd)}).Err
		},
		func() error { return object.Call(testName+".Panic", 0, fd).Err },
		func() error { return object.Call(testName+".Fail", 0, fd).Err },
		func() error { return object.Call("org.freedesktop.DBus.Peer.Ping", 0, fd).Err },
		func() error { return sendUnmentioned(address, "Plain", 0, f) },
		func() error { return sendUnmentioned(address, "Plain", dbus.FlagNoReplyExpected, f) },
	}
	before := openDescriptors(t)
	for i := range 10000 {
		kind := i % len(kinds)
		if kind >= 6 && i > 800 { // each is a connection of its own
			kind %= 6
		}
		if err := kinds[kind](); err != nil && kind != 3 && kind != 4 {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	// One more message makes the reader let go of the last one's descriptors.
	if err := object.Call(testName+".Plain", 0).Err; err != nil {
		t.Fatal(err)
	}
	waitNoCalls(t, server)
	if after := openDescriptors(t); after > before+2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// waitNoCalls waits until every wrapper has returned: a reply is on the bus a
// moment before.
func waitNoCalls(t testing.TB, c *Conn) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		c.calls.mu.Lock()
		left := len(c.calls.inFlight) + len(c.calls.fds)
		c.calls.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls do not end", left)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

// sendUnmentioned sends a call that carries five descriptors in a body that
// mentions none, which no D-Bus library does.
func sendUnmentioned(address, member string, flags dbus.Flags, f *os.File) error {
	raw, err := newRawClient(address)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	return raw.call(testName, member, flags, []int{int(f.Fd()), int(f.Fd()), int(f.Fd()), int(f.Fd()), int(f.Fd())}, "text")
}

// rawClient writes bytes of its own to a bus.
type rawClient struct {
	c      *net.UnixConn
	r      *bufio.Reader
	serial uint32
}

func newRawClient(address string) (*rawClient, error) {
	name, err := transport.SocketName(strings.Split(address, ";")[0])
	if err != nil {
		return nil, err
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	r := &rawClient{c: c, r: bufio.NewReader(c)}
	uid := fmt.Sprintf("%x", fmt.Sprint(os.Geteuid()))
	for _, line := range []string{"\x00AUTH EXTERNAL " + uid + "\r\n", "NEGOTIATE_UNIX_FD\r\n"} {
		if _, err := c.Write([]byte(line)); err != nil {
			return nil, err
		}
		if _, err := r.r.ReadString('\n'); err != nil {
			return nil, err
		}
	}
	if _, err := c.Write([]byte("BEGIN\r\n")); err != nil {
		return nil, err
	}
	return r, r.call("org.freedesktop.DBus", "Hello", 0, nil)
}

func (r *rawClient) Close() error { return r.c.Close() }

// call sends a method call and, unless the flags say otherwise, waits for its
// reply.
func (r *rawClient) call(dest, member string, flags dbus.Flags, fds []int, body ...any) error {
	_, err := r.exchange(dest, member, flags, fds, body...)
	return err
}

// signalsBeforeReply counts the signals of our own that come before the reply.
func (r *rawClient) signalsBeforeReply(dest, member string) (int, error) {
	return r.exchange(dest, member, 0, nil)
}

func (r *rawClient) exchange(dest, member string, flags dbus.Flags, fds []int, body ...any) (signals int, err error) {
	message := encodeCall(dest, member, len(fds), body...)
	message[2] = byte(flags)
	r.serial++
	message[8] = byte(r.serial) // little endian, and there are few
	if _, _, err := r.c.WriteMsgUnix(message, unix.UnixRights(fds...), nil); err != nil {
		return 0, err
	}
	for flags&dbus.FlagNoReplyExpected == 0 {
		m, err := dbus.DecodeMessage(r.r)
		if err != nil {
			return signals, err
		}
		if m.Type == dbus.TypeSignal && m.Headers[dbus.FieldInterface].Value() == testName {
			signals++
		}
		if serial, ok := m.Headers[dbus.FieldReplySerial].Value().(uint32); ok && serial == r.serial {
			if m.Type == dbus.TypeError {
				return signals, dbus.Error{Name: m.Headers[dbus.FieldErrorName].Value().(string), Body: m.Body}
			}
			return signals, nil
		}
	}
	return 0, nil
}
