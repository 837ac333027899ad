// SPDX-License-Identifier: Apache-2.0

package conv

/*
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include "spawn.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/worker"
)

// What login programs give as PATH.
const (
	rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	userPath = "/usr/local/bin:/usr/bin:/bin"
)

// login is what login programs take from the entry of a user.
type login struct {
	account
	directory, shell string
}

// findLogin asks NSS once more: modules may have made the user, or the home.
func (t *transaction) findLogin() (*login, error) {
	name := C.CString(t.user)
	defer C.free(unsafe.Pointer(name))
	var entry C.struct_passwd
	var found *C.struct_passwd
	for size := C.size_t(16 << 10); size <= 1<<20; size *= 4 {
		buffer := (*C.char)(C.malloc(size))
		result := C.getpwnam_r(name, &entry, buffer, size, &found)
		var h *login
		if found != nil {
			h = &login{account{uint32(entry.pw_uid), uint32(entry.pw_gid)}, C.GoString(entry.pw_dir), C.GoString(entry.pw_shell)}
		}
		C.free(unsafe.Pointer(buffer))
		switch {
		case result == C.ERANGE:
		case h == nil:
			return nil, fmt.Errorf("NSS does not know the user %s", t.user)
		case h.uid == noUID || h.gid == noUID:
			return nil, fmt.Errorf("the uid or gid of %s is none", t.user)
		case t.account != nil && h.uid != t.account.uid:
			return nil, fmt.Errorf("the uid of %s was %d and is %d", t.user, t.account.uid, h.uid)
		default:
			return h, nil
		}
	}
	return nil, fmt.Errorf("the entry of the user %s is too long", t.user)
}

// complete adds to the PAM environment what login programs set, where modules and
// the opener have not.
func (h *login) complete(environment [][]byte) []string {
	all := make([]string, 0, len(environment)+5)
	for _, entry := range environment {
		all = append(all, string(entry))
	}
	path := userPath
	if h.uid == 0 {
		path = rootPath
	}
	for _, missing := range [][2]string{
		{"HOME", orElse(h.directory, "/")}, {"SHELL", orElse(h.shell, "/bin/sh")}, {"PATH", path},
	} {
		if _, set := lookUp(all, missing[0]); !set {
			all = append(all, missing[0]+"="+missing[1])
		}
	}
	return all
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func lookUp(environment []string, name string) (string, bool) {
	for _, entry := range environment {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// programs are the paths that a command may mean. Which of them there are is for
// the user's identity to see. A part of PATH that is not absolute is left out: it
// would depend on the working directory.
func programs(name string, environment []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path, _ := lookUp(environment, "PATH")
	var all []string
	for dir := range strings.SplitSeq(path, ":") {
		if strings.HasPrefix(dir, "/") {
			all = append(all, strings.TrimSuffix(dir, "/")+"/"+name)
		}
	}
	return all
}

// startCommand starts the command in the session that is open.
func (t *transaction) startCommand(environment [][]byte) (pid uint32, f *failure) {
	if t.command == nil {
		return 0, nil
	}
	defer t.session.dropStdio()
	p, err := t.begin(environment)
	if err != nil {
		return 0, &failure{code: commandFailed, phase: worker.Phase_PHASE_SESSION, text: err.Error()}
	}
	t.processes = p
	t.log.Info("the command runs", "pid", p.leader)
	return uint32(p.leader), nil
}

func (t *transaction) begin(environment [][]byte) (*processes, error) {
	h, err := t.findLogin()
	if err != nil {
		return nil, err
	}
	// Without this phase the thread still has the groups of root.
	if !t.wants(worker.Phase_PHASE_CREDENTIALS) {
		if err := t.initGroups(); err != nil {
			return nil, err
		}
	}
	stdio, err := t.session.takeStdio()
	if err != nil {
		return nil, err
	}
	p, err := newProcesses(t.log)
	if err != nil {
		return nil, err
	}
	all := h.complete(environment)
	for _, name := range []string{"USER", "LOGNAME"} {
		if _, set := lookUp(all, name); !set {
			all = append(all, name+"="+t.user)
		}
	}
	all = overlay(all, t.command.GetEnvironment())
	t.lendTerminal(h.uid)
	if p.leader, err = t.spawn(h, all, stdio); err != nil {
		p.release()
		return nil, err
	}
	t.session.work()
	return p, nil
}

// overlay is an environment with some entries set over it, sorted. Of several
// entries of one name the last one counts.
func overlay(environment, entries []string) []string {
	set := make(map[string]string, len(environment)+len(entries))
	for _, entry := range slices.Concat(environment, entries) {
		name, _, _ := strings.Cut(entry, "=")
		set[name] = entry
	}
	return slices.Sorted(maps.Values(set))
}

// place is the directory to be entered, and the one for when that cannot be; empty
// is none.
func (h *login) place(directory string) (enter, otherwise string) {
	home := orElse(h.directory, "/")
	switch below, is := strings.CutPrefix(directory, "~"); {
	case directory == "":
		return home, "/"
	case is:
		return home + below, ""
	}
	return directory, ""
}

// loginShell is the shell of the user, called as login(1) does: with a dash.
func (h *login) loginShell() (program string, arguments []string) {
	shell := orElse(h.shell, "/bin/sh")
	return shell, []string{"-" + shell[strings.LastIndexByte(shell, '/')+1:]}
}

// spawn is spawn of spawn.c.
func (t *transaction) spawn(h *login, environment []string, stdio [3]int) (int, error) {
	arguments := t.command.GetArguments()
	var program string
	if t.command.GetLoginShell() {
		program, arguments = h.loginShell()
	} else {
		program = arguments[0]
	}
	directory, otherwise := h.place(t.command.GetDirectory())
	candidates := programs(program, environment)
	var free []func()
	defer func() {
		for _, f := range free {
			f()
		}
	}()
	list := func(values []string) **C.char {
		array, f := cStrings(values)
		free = append(free, f)
		return array
	}
	text := func(value string) *C.char {
		s := C.CString(value)
		free = append(free, func() { C.free(unsafe.Pointer(s)) })
		return s
	}
	child := C.struct_child{
		arguments: list(arguments), environment: list(environment), programs: list(candidates),
		directory: text(directory), uid: C.uid_t(h.uid), gid: C.gid_t(h.gid),
	}
	if otherwise != "" {
		child.otherwise = text(otherwise)
	}
	for i, fd := range stdio {
		child.stdio[i] = C.int(fd)
	}
	if t.command.GetTerminal() {
		child.terminal = 1
	}
	child.files, child.core = t.limits.c()
	var trouble C.struct_trouble
	pid := C.spawn(&child, &trouble)
	if pid < 0 {
		path, _ := lookUp(environment, "PATH")
		err := spawnError(trouble.step, unix.Errno(trouble.number), program, directory, path)
		if trouble.step == C.STEP_FORK { // nobody's mistake: the machine has no room
			t.log.Error("the command does not run", "error", err)
		}
		return 0, err
	}
	return int(pid), nil
}

// spawnError says at what a command failed.
func spawnError(step C.int, err unix.Errno, program, directory, path string) error {
	what := map[C.int]string{
		C.STEP_FORK:      "start a process",
		C.STEP_SESSION:   "begin a session of processes",
		C.STEP_STDIO:     "pass on stdio",
		C.STEP_LIMITS:    "set the limits of the session",
		C.STEP_IDENTITY:  "take on the identity of the user",
		C.STEP_PROTECT:   "protect the process",
		C.STEP_TERMINAL:  "make the first of stdio the controlling terminal",
		C.STEP_DIRECTORY: "enter " + directory,
		C.STEP_EXEC:      "run " + program,
	}[step]
	if step == C.STEP_EXEC && err == unix.ENOENT && !strings.Contains(program, "/") {
		return fmt.Errorf("run %s: there is no such program in %s", program, path)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// cStrings is an array for C that ends with NULL.
func cStrings(values []string) (**C.char, func()) {
	size := C.size_t(len(values)+1) * C.size_t(unsafe.Sizeof((*C.char)(nil)))
	array := (**C.char)(C.malloc(size))
	list := unsafe.Slice(array, len(values)+1)
	for i, value := range values {
		list[i] = C.CString(value)
	}
	list[len(values)] = nil
	return array, func() {
		for _, s := range list {
			C.free(unsafe.Pointer(s))
		}
		C.free(unsafe.Pointer(array))
	}
}

// keepStdio takes over the descriptors of a Start. It does not ask for them by
// File.Fd, which would make them wait where they did not (O_NONBLOCK), in the
// opener too.
func (s *session) keepStdio(files []*os.File) error {
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		own := -1
		if controlErr := raw.Control(func(fd uintptr) { own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); controlErr != nil {
			err = controlErr
		}
		if err != nil {
			return fmt.Errorf("keep a descriptor: %w", err)
		}
		s.stdio = append(s.stdio, own)
	}
	return nil
}

// takeStdio is what the command gets as standard input, output and error.
func (s *session) takeStdio() (stdio [3]int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stdio) == 0 {
		null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return stdio, fmt.Errorf("open /dev/null: %w", err)
		}
		s.stdio = append(s.stdio, null)
	}
	for i := range stdio {
		stdio[i] = s.stdio[min(i, len(s.stdio)-1)]
		if stdio[i] < 3 {
			return stdio, errors.New("a descriptor of the worker's own was closed")
		}
	}
	return stdio, nil
}

// dropStdio closes them, so that who holds the other end of a pipe sees its end.
func (s *session) dropStdio() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeStdio()
}

// closeStdio is dropStdio for a caller who holds the lock.
func (s *session) closeStdio() {
	for _, fd := range s.stdio {
		_ = unix.Close(fd)
	}
	s.stdio = nil
}
