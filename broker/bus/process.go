// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// process is who connected to the bus. A number alone may have come to mean
// another process (CVE-2019-6133 of polkit), so it goes with what tells that
// it has not. The zero process is one that nobody knows.
type process struct {
	pid     uint32
	pidfd   *os.File // from the bus, which has it from the kernel since the connection was made; nil where it gives none
	started uint64   // without pidfd: when the process started that had the number at the look-up, in clock ticks since boot; 0 for none
}

// pin takes what the bus said of a process; pidfd is -1 when it gave none, and
// stays the caller's. A descriptor that is not of the process with that number,
// as our /proc has it, pins nothing.
func pin(pid uint32, pidfd int) process {
	p := process{pid: pid}
	if pid != 0 && pidfd >= 0 && pidOf(pidfd) == int64(pid) {
		if own, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			p.pidfd = os.NewFile(uintptr(own), "pidfd")
			return p
		}
	}
	p.started = startTime(pid)
	return p
}

func (p *process) close() {
	if p.pidfd != nil {
		_ = p.pidfd.Close()
	}
}

// same reports whether the number still means the process that it meant: since
// it connected when it is pinned, else only since it was looked up.
func (p *process) same() bool {
	if p.pidfd == nil {
		return p.started != 0 && startTime(p.pid) == p.started
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	running := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		running = err == nil && n == 0 // pidfd_open(2): readable when it has ended
	})
	return err == nil && running
}

// ending reports whether the process has ended or is about to: what it has open is closed by
// the kernel then, one after the other. It is false for a process that nobody knows, or that
// cannot be looked at for want of descriptors.
func (p *process) ending() bool {
	if p.pidfd == nil && p.started == 0 {
		return false
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	_ = f.Close()
	return !p.same() || exiting(p.pid)
}

// exiting reports whether every thread of a process is on its way to its end. The kernel marks
// each before it closes anything (PF_EXITING of linux/sched.h; field 9 of proc_pid_stat(5)).
func exiting(pid uint32) bool {
	const pfExiting = 0x4
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	for _, thread := range threads {
		flags, err := statField(fmt.Sprintf("/proc/%d/task/%s/stat", pid, thread.Name()), 9)
		if errors.Is(err, errNoField) || err == nil && flags&pfExiting == 0 {
			return false
		}
	}
	return true
}

// unit is the systemd unit of a pinned process. What /proc says is looked at
// first and believed after: only while the process lives its number is its own.
func (p *process) unit() string {
	if p.pidfd == nil {
		return ""
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
	if err != nil || !p.same() {
		return ""
	}
	return systemUnit(string(raw))
}

func (p *process) describe() (unit, comm string) {
	unit, comm = DescribeProcess(p.pid)
	if !p.same() {
		return "", ""
	}
	return unit, comm
}

// DescribeProcess returns the innermost systemd unit of a process and the name
// that it gave itself, "" where /proc does not say. They are for people to
// read and for no decision: the number may mean another process by now.
func DescribeProcess(pid uint32) (unit, comm string) {
	if pid == 0 {
		return "", ""
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
		comm = printable(strings.TrimSuffix(string(raw), "\n"))
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", comm
	}
	for part := range strings.FieldsFuncSeq(string(raw), func(r rune) bool { return r == '/' || r == '\n' }) {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			unit = printable(part) // the innermost: a user's own unit is below the manager's
		}
	}
	return unit, comm
}

// printable keeps what a process chose to be called from playing tricks.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return s[:min(len(s), api.MaxName)]
}

// pidOf is the number of the process of a pidfd; 0 and less when it has ended,
// when our /proc does not show it, and when the descriptor is something else.
func pidOf(pidfd int) int64 {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(info)) {
		if number, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, _ := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
			return pid
		}
	}
	return 0
}

// startTime is field 22 of /proc/PID/stat; 0 when there is no such process.
func startTime(pid uint32) uint64 {
	started, _ := statField(fmt.Sprintf("/proc/%d/stat", pid), 22)
	return started
}

// errNoField is a file that is not as proc_pid_stat(5) says.
var errNoField = errors.New("no such field")

// statField is a number of a /proc/PID/stat, counted as proc_pid_stat(5) does, from 3 on.
func statField(path string, field int) (uint64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // the name before it may hold anything
	if len(fields) <= field-3 {
		return 0, fmt.Errorf("%s: %w", path, errNoField)
	}
	n, err := strconv.ParseUint(fields[field-3], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, errNoField)
	}
	return n, nil
}

// systemUnit finds the unit of the system's manager in a /proc/PID/cgroup, as
// cg_path_get_unit() of systemd does: the first part below the slices, so that
// a user's own units count as user@UID.service. Only the unified hierarchy
// counts, which is systemd's own in its modes "unified" and "hybrid"; elsewhere
// nobody has a unit.
func systemUnit(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(path, "/") {
			part = strings.TrimPrefix(part, "_") // cg_unescape(): "_cgroup.service" is cgroup.service
			if part == "" {
				continue
			}
			switch kind := unitKind(part); kind {
			case "", "slice":
				if kind == "" || strings.Contains(part, "@") {
					return ""
				}
			default:
				return part
			}
		}
		return ""
	}
	return ""
}

const (
	maxUnitName = 255
	unitChars   = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\"
)

var unitKinds = []string{"service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"}

// unitKind is what stands behind the last point of a unit's name; "" when it is
// no name of a unit, which a template is not either: systemd.unit(5), and
// unit_name_is_valid() of systemd.
func unitKind(name string) string {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name) > maxUnitName || !slices.Contains(unitKinds, name[dot+1:]) {
		return ""
	}
	prefix, instance, instantiated := strings.Cut(name[:dot], "@")
	if prefix == "" || instantiated && instance == "" {
		return ""
	}
	if strings.Trim(prefix, unitChars) != "" || strings.Trim(instance, "@"+unitChars) != "" {
		return ""
	}
	return name[dot+1:]
}
