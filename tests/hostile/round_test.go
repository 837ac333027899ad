// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// How many calls of root's are made on one set of sessions, how many at once, and
// how many of them may wait for something to happen to it.
const (
	perRound = 150
	atOnce   = 32
	waiters  = 16
)

// round makes calls on a connection, and on sessions, of its own, and waits for all
// replies: when the sessions are closed, nothing waits any more.
func (b *bench) round(seed uint64, kept *set, fds []dbus.UnixFD, deadline time.Time) (calls int) {
	b.t.Helper()
	conn := b.Conn(b.t)
	victims := b.set(conn)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), fds: fds, numbers: victims.numbers()}
	tree := b.tree()
	for _, path := range kept.paths() {
		delete(tree, path)
	}
	paths := append(slices.Sorted(maps.Keys(tree)), absent...)
	members := tree[victims.open]
	type made struct {
		m    member
		path dbus.ObjectPath
		call *dbus.Call
	}
	var all []made
	running, waiting := make(chan *dbus.Call, perRound), 0
	busy := 0
	for calls < perRound && time.Now().Before(deadline) {
		path := pick(g, paths)
		list := tree[path]
		if len(list) == 0 {
			list = members
		}
		m := pick(g, list)
		args := g.arguments(m.in)
		if hits(args, kept.numbers()) {
			continue
		}
		if strings.HasSuffix(m.name, ".Wait") || strings.HasSuffix(m.name, ".NextPrompt") {
			if waiting++; waiting > waiters {
				continue
			}
			all = append(all, made{m, path, conn.Object("org.pamprompt.Broker1", path).Go(m.name, 0, make(chan *dbus.Call, 1), args...)})
			calls++
			continue
		}
		if busy == atOnce {
			b.reply(running)
			busy--
		}
		all = append(all, made{m, path, conn.Object("org.pamprompt.Broker1", path).Go(m.name, 0, running, args...)})
		busy++
		calls++
	}
	for ; busy > 0; busy-- {
		b.reply(running)
	}
	b.closeOthers(kept)
	for _, c := range all {
		if c.call.Done != running {
			b.reply(c.call.Done)
		}
		checkReply(b.t, c.m, c.path, c.call)
	}
	_, _ = victims.pipe.Close(), conn.Close()
	return calls
}

func (b *bench) reply(done <-chan *dbus.Call) {
	b.t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		b.t.Fatalf("no call has returned for %v", patience)
	}
}

// hits is whether a number among arguments is of what is to survive. Generated ones
// are small, extreme, or of the victims: this is for the case that clocks are odd.
func hits(args []any, kept []uint64) bool {
	for _, arg := range args {
		if n, is := arg.(uint64); is && slices.Contains(kept, n) {
			return true
		}
	}
	return false
}

func closeFD(t *testing.T, fd dbus.UnixFD) {
	t.Helper()
	_ = os.NewFile(uintptr(fd), "reply").Close()
}
