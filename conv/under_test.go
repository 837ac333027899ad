// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/conv/convtest"
)

// under is what a worker is started under, as a service manager or a container
// would have it: words of runUnder.
type under []string

// runUnder makes of this process what the words up to "--" say, and then runs the
// test binary with the rest:
//
//	files=SOFT:HARD   the limit of open files
//	no-resource       without CAP_SYS_RESOURCE, for good
//	no-keyctl=ERRNO   with a seccomp(2) filter that refuses keyctl(2)
func runUnder(args []string) {
	for len(args) > 0 && args[0] != "--" {
		if err := apply(args[0]); err != nil {
			fmt.Fprintln(os.Stderr, args[0], err)
			os.Exit(1)
		}
		args = args[1:]
	}
	err := unix.Exec("/proc/self/exe", append(os.Args[:1:1], args[1:]...), os.Environ())
	fmt.Fprintln(os.Stderr, "exec", err)
	os.Exit(1)
}

func apply(word string) error {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "files":
		var l unix.Rlimit
		if _, err := fmt.Sscanf(value, "%d:%d", &l.Cur, &l.Max); err != nil {
			return err
		}
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
	case "no-resource":
		return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	case "no-keyctl":
		var number uint32
		if _, err := fmt.Sscanf(value, "%d", &number); err != nil {
			return err
		}
		return refuse(unix.SYS_KEYCTL, number)
	}
	return fmt.Errorf("unknown")
}

// refuse has one system call fail from now on, in this thread and what it becomes
// and starts.
func refuse(call, number uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number comes first
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | number},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// run is run under it.
func (u under) run(t testing.TB, dir string) (*convtest.Broker, *convtest.Process, *convtest.Peer) {
	t.Helper()
	if len(u) == 0 {
		return run(t, dir)
	}
	broker := convtest.Listen(t)
	args := append(append([]string{"--under"}, u...), "--", "--idle", "--socket", broker.Socket, "--pam-dir", dir)
	process := convtest.Run(t, nil, args...)
	return broker, process, broker.Accept()
}
