// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// generator makes arguments. Its numbers include those of things that there are.
type generator struct {
	*rand.Rand
	numbers []uint64
	fds     []dbus.UnixFD
	room    int // for descriptors in a message
}

// maxDescriptors is what any bus and the kernel take in one message.
const maxDescriptors = 12

// words are what strings are made of: empty ones, paths, markup, control
// characters, and what the members know.
var words = []string{
	"", " ", "x", ".", "..", "/", "../../etc/shadow", "/dev/null", "/proc/self/environ", "-rf", "~root", "%s%n%x", "$(id)", "`id`", ";id",
	"<b>bold</b>", "&amp;", "\x1b[2J", "a\nb", "\r", "\t", "\x7f", "\u0085", "\u202e", "\ufffd", "é", "A=1", "=", "PATH=/x", "LD_PRELOAD=/x",
	"permit", "vault", "root", "anna", "nosuch", "true", "open", "opening", "closed", "failed", "leader", "group", "all", "yes", "fallback",
	api.StyleSecret, api.StyleVisible, api.StyleInfo, api.StyleError, api.StyleChoice, api.StyleBinary, "authenticate", "session", "AAAABQE=",
	api.ManagerInterface, api.SessionInterface, "org.freedesktop.DBus.Properties", "State", "Environment", "Version", "C.UTF-8", "unless-permitted",
}

// options are all keys that a dictionary of any member has, and some that none has.
var options = []string{
	"tty", "rhost", "ruser", "xdisplay", "environment", "phases", "reason", "timeout", "attempts", "linger", "agent", "silent", "locale",
	"ask-password", "command", "stdio", "working-directory", "controlling-terminal", "login-shell", "command-environment", "authenticate",
	"alternatives", "pid", "uid", "choices", "binary", "phase", "attempt", "", "x", "\x1b", "LINGER",
}

// bounds are the lengths that something has as its limit, and one more.
var bounds = []int{63, 64, 65, 255, 256, 1024, 4096, 4097, 64 << 10, 64<<10 + 1, 128 << 10, 128<<10 + 1}

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

// long is whether a message may be long: godbus cannot send one that does not fit the
// socket at once if it has descriptors. One that is has none.
func (g *generator) long() bool {
	if g.room == maxDescriptors {
		g.room = 0
	}
	return g.room <= 0
}

func (g *generator) text() string {
	switch g.IntN(12) {
	case 0:
		if g.long() {
			return strings.Repeat("x", pick(g, bounds))
		}
	case 1:
		if g.long() {
			return strings.Repeat("é", pick(g, bounds)/2)
		}
	case 2:
		return pick(g, words) + pick(g, words)
	}
	return pick(g, words)
}

func (g *generator) number() uint64 {
	if len(g.numbers) > 0 && g.IntN(2) == 0 {
		return pick(g, g.numbers)
	}
	return pick(g, []uint64{0, 1, 2, 9, 15, 64, 65, 1000, math.MaxInt32, 1 << 31, math.MaxUint32, 1 << 32, math.MaxInt64, 1 << 63, math.MaxUint64})
}

// value is one of a type that is one character.
func (g *generator) value(kind byte) any {
	n := g.number()
	switch kind {
	case 's':
		return g.text()
	case 'y':
		return byte(n)
	case 'b':
		return n%2 == 0
	case 'n':
		return int16(n)
	case 'q':
		return uint16(n)
	case 'i':
		return int32(n)
	case 'u':
		return uint32(n)
	case 'x':
		return int64(n)
	case 't':
		return n
	case 'd':
		return math.Float64frombits(n)
	case 'h':
		if g.room--; g.room < 0 {
			return uint32(n)
		}
		return pick(g, g.fds)
	case 'o':
		return pick(g, []dbus.ObjectPath{"/", api.RootPath, api.SessionPrefix + "1"})
	case 'v':
		return g.variant(0)
	}
	panic(fmt.Sprintf("a type %q", kind))
}

// variant is any value, also nested.
func (g *generator) variant(depth int) dbus.Variant {
	switch g.IntN(6) {
	case 0:
		lengths := []int{0, 1, 3, 64, 65}
		if g.long() {
			lengths = append(lengths, 1000)
		}
		list := make([]string, pick(g, lengths))
		for i := range list {
			list[i] = pick(g, words)
		}
		return dbus.MakeVariant(list)
	case 1:
		if g.room >= 3 {
			g.room -= 3
			return dbus.MakeVariant([]dbus.UnixFD{pick(g, g.fds), pick(g, g.fds), pick(g, g.fds)}[:1+g.IntN(3)])
		}
	case 2:
		if depth < 20 {
			return dbus.MakeVariant(g.variant(depth + 1))
		}
	case 3:
		return dbus.MakeVariant(g.dictionary(depth + 10))
	}
	return dbus.MakeVariant(g.value(pick(g, []byte("sybnqiuxtdho"))))
}

func (g *generator) dictionary(depth int) map[string]dbus.Variant {
	all := make(map[string]dbus.Variant)
	if depth > 20 {
		return all
	}
	size := g.IntN(4)
	if g.IntN(50) == 0 && g.long() {
		size = 1000
	}
	for i := range size {
		name := pick(g, options)
		if size > len(options) { // many, and not megabytes: those are refused for that alone
			all[fmt.Sprint(name, i)] = dbus.MakeVariant(pick(g, words))
			continue
		}
		all[name] = g.variant(depth)
	}
	return all
}

// arguments are of a signature, or in one case of eight of another.
func (g *generator) arguments(signature string) []any {
	if g.IntN(8) == 0 {
		signature = pick(g, []string{"", "s", "t", "ts", "ssa{sv}", "sss", "v", "h", "th", "a{sv}", "ssss", "ooo", "hhh", "yyyyyyyy", "d"})
	}
	g.room = maxDescriptors
	var all []any
	for signature != "" {
		if rest, is := strings.CutPrefix(signature, "a{sv}"); is {
			all, signature = append(all, g.dictionary(0)), rest
			continue
		}
		all, signature = append(all, g.value(signature[0])), signature[1:]
	}
	return all
}

// descriptors are of every kind that there is.
func descriptors(t testing.TB) []dbus.UnixFD {
	t.Helper()
	var all []dbus.UnixFD
	keep := func(fds ...int) {
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "hostile")
			t.Cleanup(func() { _ = f.Close() })
			all = append(all, dbus.UnixFD(fd))
		}
	}
	pipe, closed, sockets := make([]int, 2), make([]int, 2), [2]int{}
	memfd, err1 := unix.MemfdCreate("hostile", unix.MFD_CLOEXEC)
	directory, err2 := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	null, err3 := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	path, err4 := unix.Open("/dev/zero", unix.O_PATH|unix.O_CLOEXEC, 0)
	err5, err6 := unix.Pipe2(pipe, unix.O_CLOEXEC), unix.Pipe2(closed, unix.O_CLOEXEC)
	var err7 error
	sockets, err7 = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	for _, err := range []error{err1, err2, err3, err4, err5, err6, err7, unix.Close(closed[1])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	keep(memfd, directory, null, path, pipe[1], closed[0], sockets[0], sockets[1])
	keep(pipe[0]) // one that never ends: AnswerPromptFD waits ten seconds for it
	return all[:len(all)-1]
}
