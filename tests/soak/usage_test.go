// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/figures"
)

// The programs that are looked at. Their names begin those of what they use.
const (
	theBroker = "broker"
	thePool   = "pool"
	theBus    = "bus"
	us        = "callers" // the test, in which all callers and agents are
)

// usage is what is in use at one moment, by name.
type usage struct {
	of     map[string]int64
	stacks map[string]string // of the goroutines, by program
}

func (u usage) set(name string, value int64) { u.of[name] = value }

// count counts what can be counted without a garbage collection, which closes files
// that somebody has forgotten to close.
func (b *bench) count(t testing.TB) usage {
	t.Helper()
	u := usage{of: make(map[string]int64), stacks: make(map[string]string)}
	for name, pid := range b.programs() {
		u.descriptors(name, pid)
	}
	u.processes(b)
	u.bus(t, b)
	u.set("request files", int64(len(b.files.requests())))
	u.set("unix sockets", sockets(b.Dir+"/", b.files.dir+"/"))
	u.set("workers at the broker", sockets(b.Dir+"/workers/")-1) // the one that listens
	u.set("kernel keys", keys())
	return u
}

func (b *bench) programs() map[string]int {
	return map[string]int{theBroker: b.BrokerPID(), thePool: b.PoolPID(), theBus: b.BusPID(), us: os.Getpid()}
}

// weigh adds what only a garbage collection makes comparable.
func (b *bench) weigh(t testing.TB, u usage) {
	t.Helper()
	for name, pid := range b.programs() {
		var f figures.Figures
		var err error
		switch name {
		case us:
			f = figures.Own()
		case theBus: // is not written in Go
		default:
			f, err = b.desk.Ask(pid, patience)
		}
		if err != nil {
			t.Fatal(err)
		}
		if name != theBus {
			u.set(name+" heap", int64(f.Heap))
			u.set(name+" objects", int64(f.Objects))
			u.set(name+" goroutines", int64(f.Goroutines))
			u.stacks[name] = f.Stacks
		}
		u.set(name+" RSS", inKiB(pid, "Rss:")<<10)
		u.set(name+" PSS", inKiB(pid, "Pss:")<<10)
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		u.set(name+" threads", int64(len(threads)))
	}
}

func (u usage) descriptors(name string, pid int) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(dir)
	all := 0
	for _, entry := range entries {
		// One of ours is that of the directory itself.
		if target, err := os.Readlink(dir + entry.Name()); err == nil && target != strings.TrimSuffix(dir, "/") {
			all++
		}
	}
	u.set(name+" descriptors", int64(all))
}

// processes counts those of the system, and the dead that nobody has reaped.
func (u usage) processes(b *bench) {
	parents := map[int]bool{os.Getpid(): true, b.BrokerPID(): true, b.PoolPID(): true}
	var workers, zombies int64
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if parent, _ := strconv.Atoi(fields[1]); parents[parent] && fields[0] == "Z" {
			zombies++
		}
		line, _ := os.ReadFile(filepath.Dir(path) + "/cmdline")
		if bytes.Contains(line, []byte("\x00--idle\x00")) && bytes.Contains(line, []byte(b.Dir)) {
			workers++
		}
	}
	u.set("workers", workers)
	u.set("zombies", zombies)
}

const stats = "org.freedesktop.DBus.Debug.Stats"

func (u usage) bus(t testing.TB, b *bench) {
	t.Helper()
	var all map[string]dbus.Variant
	if err := b.conn.BusObject().Call(stats+".GetStats", 0).Store(&all); err != nil {
		t.Fatalf("ask the bus for its figures: %v", err)
	}
	for name, key := range map[string]string{
		"bus connections": "ActiveConnections", "bus incomplete connections": "IncompleteConnections",
		"bus names": "BusNames", "bus match rules": "MatchRules",
	} {
		n, ok := all[key].Value().(uint32)
		if !ok {
			t.Fatalf("the bus does not say %s: %v", key, all)
		}
		u.set(name, int64(n))
	}
	var owner string
	var rules []string
	if b.conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, api.BusName).Store(&owner) != nil {
		return // between two brokers
	}
	var by map[string][]string
	if err := b.conn.BusObject().Call(stats+".GetAllMatchRules", 0).Store(&by); err != nil {
		t.Fatalf("ask the bus for its match rules: %v", err)
	}
	rules = by[owner]
	u.set("broker match rules", int64(len(rules)))
}

// sockets counts the ends of sockets with names that have one of these in them.
func sockets(places ...string) (n int64) {
	text, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(text)) {
		for _, place := range places {
			if strings.Contains(line, place) {
				n++
			}
		}
	}
	return n
}

// keys are those of root that the kernel holds; 0 where it has none.
func keys() int64 {
	text, _ := os.ReadFile("/proc/key-users")
	for line := range strings.Lines(string(text)) {
		var uid, usage, n int64
		if _, err := fmt.Sscanf(line, "%d: %d %d/", &uid, &usage, &n); err == nil && uid == 0 {
			return n
		}
	}
	return 0
}

// inKiB is a field of smaps_rollup.
func inKiB(pid int, field string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n
		}
	}
	return 0
}

// pause is between two looks: to look without end would hold up what is looked for.
const pause = 20 * time.Millisecond

// settle waits until all that is counted is as it was when nobody did anything, and
// adds what is weighed. What is not after b.patience is an error: it was left.
func (b *bench) settle(t testing.TB, when string, idle usage) usage {
	t.Helper()
	again := time.NewTicker(pause)
	defer again.Stop()
	late := time.Now().Add(b.patience)
	u := b.count(t)
	for len(u.left(idle)) > 0 && time.Now().Before(late) {
		<-again.C
		u = b.count(t)
	}
	for b.weigh(t, u); len(u.left(idle)) > 0 && time.Now().Before(late); b.weigh(t, u) {
		<-again.C
	}
	for _, name := range u.left(idle) {
		t.Errorf("%s: there are %d %s, and %d when nothing was going on", when, u.of[name], name, idle.of[name])
		if program, ok := strings.CutSuffix(name, " goroutines"); ok {
			t.Logf("the goroutines of the %s:\n%s", program, u.stacks[program])
		}
		if program, ok := strings.CutSuffix(name, " descriptors"); ok {
			t.Logf("the descriptors of the %s: %q", program, open(b.programs()[program]))
		}
	}
	return u
}

// open are the files that a process has open.
func open(pid int) (names []string) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		name, _ := os.Readlink(dir + entry.Name())
		names = append(names, name)
	}
	return names
}

// left are the names of what is counted and is not as it was.
func (u usage) left(idle usage) (names []string) {
	for _, f := range fields {
		was, known := idle.of[f.name]
		is, counted := u.of[f.name]
		if f.how == counts && known && counted && is != was {
			names = append(names, f.name)
		}
	}
	return names
}
