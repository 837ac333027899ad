// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/pids"
	"github.com/pamprompt/pamprompt/tests/system"
)

// everything has polkit say yes to whoever it knows.
const everything = `polkit.addRule(function() { return polkit.Result.YES; });`

// polkit took a caller who had left in mid-call for root: it could not be
// looked up, and an error was no uid, which was 0.
func TestCVE_2021_3560_ACallerWhoHasLeftIsRefused(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Polkit: everything}, func(t *testing.T, b *bench) {
		session, _ := b.vault(t)
		b.FreezePolkit(t)
		for range 8 {
			other := b.join(t, system.Other)
			other.Object(api.BusName, session).Go(api.SessionInterface+".Close", dbus.FlagNoReplyExpected, nil)
			other.settle() // the broker has the call now
			other.Leave(t)
		}
		b.ThawPolkit(t)
		// polkit answers in order: what it is asked now, it answers last.
		last := b.join(t, system.Agent)
		if err := last.call(session, api.SessionInterface+".Wait", api.StateOpening).Err; err != nil {
			t.Fatalf("who stays may: %v", err)
		}
		if state, text := b.wait(t, session, api.StateOpening); state != api.StateOpening {
			t.Errorf("the session is %s: %s", state, text)
		}
	})
}

// Callers who left in mid-call left descriptors behind in polkit (CVE-2021-4115),
// and messages with too many in dbus-daemon (CVE-2020-12049), until nothing worked.
func TestCVE_2021_4115_CVE_2020_12049_NoDescriptorStays(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opens}, func(t *testing.T, b *bench) {
		null, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = null.Close() }()
		fd := dbus.UnixFD(null.Fd())
		b.descriptors(t, func(round int) {
			other := b.join(t, system.Other)
			for range 20 {
				for _, c := range []struct {
					member string
					args   []any
				}{
					{api.ManagerInterface + ".AnswerPromptFD", []any{uint64(nobody), fd}},
					{api.ManagerInterface + ".AnswerPromptFD", []any{fd}},
					{api.ManagerInterface + ".AnswerPromptFD", []any{uint64(nobody), []dbus.UnixFD{fd, fd, fd}}},
					{api.ManagerInterface + ".OpenSession", []any{"permit", "anna", options{"stdio": dbus.MakeVariant([]dbus.UnixFD{fd, fd, fd})}}},
					{"org.freedesktop.DBus.Peer.Ping", []any{fd}},
				} {
					other.Object(api.BusName, api.RootPath).Go(c.member, dbus.FlagNoReplyExpected, nil, c.args...)
				}
			}
			if round%2 == 0 {
				other.settle()
			}
			other.Leave(t)
		})
	})
}

// descriptors does something again and again, and compares how many descriptors
// the broker has after the first times and after the last.
func (b *bench) descriptors(t *testing.T, round func(int)) {
	t.Helper()
	const rounds, slack = 12, 8
	before := 0
	for i := range rounds {
		round(i)
		if i == 2 {
			before = b.countDescriptors(t)
		}
	}
	if after := b.countDescriptors(t); after > before+slack {
		t.Errorf("the broker has %d descriptors, and had %d", after, before)
	}
}

func (b *bench) countDescriptors(t *testing.T) int {
	t.Helper()
	// polkit answers in order, so that what came before this is over after it.
	wantDenied(t, "the last call", b.join(t, system.Agent).manager("CancelPrompt", uint64(nobody)).Err)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.brokerPID(t)))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func (b *bench) brokerPID(t *testing.T) (pid uint32) {
	t.Helper()
	if err := b.root.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, api.BusName).Store(&pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// pkexec was set-uid root, and took an environment variable for its argument
// when it was given none.
func TestCVE_2021_4034_NoProgramIsSetUIDOrTrustsArgv(t *testing.T) {
	p := system.Build(t)
	for _, path := range []string{p.Broker, p.Client, p.Worker} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if _, err := unix.Getxattr(path, "security.capability", nil); !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			t.Errorf("%s has capabilities: %v", path, err)
		}
		// The kernel makes one empty argument of none, since 5.18.
		pid, err := syscall.ForkExec(path, nil, &syscall.ProcAttr{Env: []string{"GCONV_PATH=.", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent"}})
		if err != nil {
			t.Fatal(err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			t.Fatal(err)
		}
		if !status.Exited() || status.ExitStatus() == 0 || status.ExitStatus() == 2 && strings.HasSuffix(path, "broker") {
			t.Errorf("%s without arguments ended with status %#x", path, status)
		}
	}
}

// polkit's helper read its input until it had no memory left.
func TestCVE_2026_4897_InputIsBounded(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener := b.join(t, system.Opener)
	prompt, _ := opener.prompt(opener.open("ask", "anna", asAgent()))
	before := peakMemory(t, b.brokerPID(t))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan int)
	go func() {
		total, chunk := 0, make([]byte, 64<<10)
		for {
			n, err := w.Write(chunk)
			if total += n; err != nil {
				break
			}
		}
		_ = w.Close()
		written <- total
	}()
	wantCode(t, "a pipe that never ends", opener.manager("AnswerPromptFD", prompt, dbus.UnixFD(r.Fd())).Err, api.LimitExceeded)
	_ = r.Close() // our end; the broker's is closed by now
	if total := <-written; total > 4*api.MaxResponse {
		t.Errorf("%d bytes were taken from a pipe, and %d are read of it", total, api.MaxResponse)
	}
	wantCode(t, "a long text", opener.manager("AnswerPrompt", prompt, strings.Repeat("x", api.MaxResponse+1)).Err, api.LimitExceeded)
	long := strings.Repeat("x", 2<<20)
	for _, c := range []*dbus.Call{
		opener.manager("AnswerPrompt", prompt, long), opener.manager("OpenSession", "permit", long, options{}),
		opener.manager("OpenSession", "permit", "anna", options{"reason": dbus.MakeVariant(long)}),
	} {
		if c.Err == nil {
			t.Error("a message of two megabytes is no error")
		}
	}
	if err := opener.manager("AnswerPrompt", prompt, "right").Err; err != nil {
		t.Errorf("afterwards the answer is no good: %v", err)
	}
	if grown := peakMemory(t, b.brokerPID(t)) - before; grown > 64<<10 {
		t.Errorf("the broker has grown by %d KiB", grown)
	}
}

// peakMemory is VmHWM of proc_pid_status(5), in KiB.
func peakMemory(t *testing.T, pid uint32) (size int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &size); err != nil {
				t.Fatal(err)
			}
		}
	}
	return size
}

// The cookie of a question of polkit's was a counter, and whoever guessed it
// answered. Our numbers can be guessed; they are good for nobody else.
func TestCVE_2015_4625_AGuessedNumberIsOfNoUse(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener, other := b.join(t, system.Opener), b.join(t, system.Other)
	session := opener.open("ask", "anna", asAgent())
	prompt, _ := opener.prompt(session)
	for guess := prompt - 20; guess < prompt+20; guess++ {
		wantDenied(t, "a guess", other.manager("AnswerPrompt", guess, "right").Err)
		wantDenied(t, "a guess", other.manager("CancelPrompt", guess).Err)
	}
	if err := opener.manager("AnswerPrompt", prompt, "right").Err; err != nil {
		t.Errorf("the opener's own answer: %v", err)
	}
}

// polkit believed a caller who said which uid was its subject's.
func TestCVE_2018_1116_NobodySaysWhichUIDTheyAre(t *testing.T) {
	onEitherBus(t, system.MachineOptions{Policy: opens}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		for _, name := range []string{"uid", "owner-uid", "owner", "pid"} {
			o := options{name: dbus.MakeVariant(uint32(0))}
			wantCode(t, "OpenSession with "+name, opener.manager("OpenSession", "permit", "anna", o).Err, api.UnknownOption)
			wantCode(t, "RegisterAgent with "+name, opener.manager("RegisterAgent", o).Err, api.UnknownOption)
		}
		socket := system.Socket(t, b.Address, system.Other)
		if _, err := fmt.Fprintf(socket, "\x00AUTH EXTERNAL %x\r\n", "0"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(socket).ReadString('\n'); err == nil && strings.HasPrefix(line, "OK") {
			t.Errorf("the bus takes another user for root: %q", line)
		}
	})
}

// A process could take over what polkit had allowed to another of the same
// number, which had ended.
func TestCVE_2019_6133_ThePIDOfAnotherIsOfNoUse(t *testing.T) {
	const trusted = `
[[rule]]
action = "open"
service = "permit"
caller = "unit:trusted.service"
verdict = "allow"
`
	onEitherBus(t, system.MachineOptions{Policy: trusted}, func(t *testing.T, b *bench) {
		opener := b.join(t, system.Opener)
		opener.EndProcess()
		pids.StartAs(t, opener.PID)
		b.Place(t, opener.PID, "/system.slice/trusted.service")
		wantDenied(t, "with the number of a process of a unit", opener.manager("OpenSession", "permit", "anna", options{}).Err)
	})
}
