// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// dialFake connects to a bus that says of everybody what a test wants.
func dialFake(t testing.TB, f *fakeBus) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), f.start(t), Options{Handler: nothing, Gone: func(*Peer) {}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// says is what a bus says: a fake of one for a connection of that process.
func says(pid int, pidfds ...int) func() (map[string]dbus.Variant, []int) {
	return func() (map[string]dbus.Variant, []int) {
		credentials := map[string]dbus.Variant{
			"UnixUserID":   dbus.MakeVariant(uint32(1000)),
			"UnixGroupIDs": dbus.MakeVariant([]uint32{1000, 27}),
			"ProcessID":    dbus.MakeVariant(uint32(pid)),
		}
		if len(pidfds) > 0 {
			credentials["ProcessFD"] = dbus.MakeVariant(dbus.UnixFDIndex(0))
		}
		return credentials, pidfds
	}
}

func openSelf(t testing.TB) int {
	t.Helper()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestTheProcessIsPinnedByTheDescriptorOfTheBus(t *testing.T) {
	self, pid := openSelf(t), os.Getpid()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(null) }()
	for _, c := range []struct {
		name string
		says func() (map[string]dbus.Variant, []int)
		want bool
	}{
		{"with a descriptor", says(pid, self), true},
		{"with others beside it", says(pid, self, null, null), true},
		{"with none", says(pid), false},
		{"with one that is no process", says(pid, null), false},
		{"with one of another process than the number", says(os.Getppid(), self), false},
		{"with no number", func() (map[string]dbus.Variant, []int) {
			m, fds := says(pid, self)()
			delete(m, "ProcessID")
			return m, fds
		}, false},
		{"with an index that no descriptor has", func() (map[string]dbus.Variant, []int) {
			m, fds := says(pid, self)()
			m["ProcessFD"] = dbus.MakeVariant(dbus.UnixFDIndex(1))
			return m, fds
		}, false},
		{"with an index that is no descriptor", func() (map[string]dbus.Variant, []int) {
			m, fds := says(pid, self)()
			m["ProcessFD"] = dbus.MakeVariant(uint32(0))
			return m, fds
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := dialFake(t, &fakeBus{credentials: c.says})
			before := openDescriptors(t)
			p, err := server.Peer(t.Context(), ":1.2")
			if err != nil {
				t.Fatal(err)
			}
			if p.Pinned() != c.want {
				t.Errorf("it is pinned: %v", p.Pinned())
			}
			if p.UID != 1000 || !slices.Equal(p.Groups, []uint32{1000, 27}) {
				t.Errorf("it is %+v", p)
			}
			if p.Pinned() {
				before++ // it keeps one, whatever came along
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("there are %d descriptors, not %d", after, before)
			}
		})
	}
}

// CVE-2021-3560, CVE-2018-19788: a bus that knows no user means none, and one
// above INT_MAX is an ordinary user.
func TestWhichUsersThereAre(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any // nil: the bus says nothing
		want  uint32
		fails bool
	}{
		{"root", uint32(0), 0, false},
		{"above INT_MAX", uint32(math.MaxInt32 + 1), math.MaxInt32 + 1, false},
		{"the last one", uint32(math.MaxUint32 - 1), math.MaxUint32 - 1, false},
		{"nobody at all, (uid_t) -1", uint32(math.MaxUint32), 0, true},
		{"not said", nil, 0, true},
		{"of another type", int32(0), 0, true},
		{"a text", "0", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := dialFake(t, &fakeBus{credentials: func() (map[string]dbus.Variant, []int) {
				m := map[string]dbus.Variant{"ProcessID": dbus.MakeVariant(uint32(1))}
				if c.value != nil {
					m["UnixUserID"] = dbus.MakeVariant(c.value)
				}
				return m, nil
			}})
			p, err := server.Peer(t.Context(), ":1.2")
			if (err != nil) != c.fails {
				t.Fatalf("the error is %v", err)
			}
			if err == nil && p.UID != c.want {
				t.Errorf("the uid is %d", p.UID)
			}
		})
	}
}

func TestTheDescriptorOfAPeerIsClosedWhenItLeaves(t *testing.T) {
	f := &fakeBus{credentials: says(os.Getpid(), openSelf(t))}
	server := dialFake(t, f)
	before := openDescriptors(t)
	p, err := server.Peer(t.Context(), ":1.2")
	if err != nil || !p.Pinned() {
		t.Fatalf("it is %+v: %v", p, err)
	}
	f.leave(t, ":1.2")
	<-p.Gone()
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if unit := p.Unit(); unit != "" {
		t.Errorf("one that has left runs in %s", unit)
	}
}

// Who leaves while the bus is asked who that is, is nobody, whatever the bus says.
func TestACallerWhoLeavesWhileItIsLookedUpIsRefused(t *testing.T) {
	f := &fakeBus{credentials: says(os.Getpid(), openSelf(t)), late: make(chan struct{})}
	server := dialFake(t, f)
	result := make(chan error, 1)
	go func() {
		_, err := server.Peer(t.Context(), ":1.2")
		result <- err
	}()
	<-f.asked
	f.leave(t, ":1.2")
	close(f.late) // the answer comes behind that
	if err := <-result; !errors.Is(err, errLeft) {
		t.Errorf("it is found out: %v", err)
	}
}

func TestDescriptorsOfAReplyThatComesTooLateAreClosed(t *testing.T) {
	f := &fakeBus{credentials: says(os.Getpid(), openSelf(t)), late: make(chan struct{})}
	server := dialFake(t, f)
	before := openDescriptors(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := server.Peer(ctx, ":1.2")
		cancelled <- err
	}()
	<-f.asked
	cancel()
	if err := <-cancelled; err == nil {
		t.Fatal("it was found out without an answer")
	}
	close(f.late)
	<-f.answered
	if _, err := server.Peer(t.Context(), ":1.3"); err != nil { // which comes after the late one
		t.Fatal(err)
	}
	f.leave(t, ":1.3")
	if err := server.conn.BusObject().Call(driver+".GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	server.calls.mu.Lock()
	defer server.calls.mu.Unlock()
	if len(server.calls.replies) != 0 {
		t.Errorf("%d replies are waited for", len(server.calls.replies))
	}
}

func TestOnlyTheBusAnswersForTheBus(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   dbus.Type
		sender string
		serial uint32
		want   int
	}{
		{"the reply", dbus.TypeMethodReply, driver, 7, 1},
		{"a reply to nothing", dbus.TypeMethodReply, driver, 8, 0},
		{"a reply of somebody else", dbus.TypeMethodReply, ":1.5", 7, 0},
		{"an error", dbus.TypeError, driver, 7, 0},
		{"a signal", dbus.TypeSignal, driver, 7, 0},
	} {
		var calls calls
		calls.init()
		calls.replies[7] = nil
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		calls.keepReply(&dbus.Message{Type: c.kind, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldSender:      dbus.MakeVariant(c.sender),
			dbus.FieldReplySerial: dbus.MakeVariant(c.serial),
		}}, []int{fd})
		_, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if got := len(calls.takeReply(7)); got != c.want || (err == nil) != (c.want == 1) {
			t.Errorf("%s: %d descriptors were kept, want %d; open: %v", c.name, got, c.want, err == nil)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}
