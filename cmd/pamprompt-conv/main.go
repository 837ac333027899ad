// SPDX-License-Identifier: Apache-2.0

// Command pamprompt-conv is the helper of pam_pamprompt.so: it asks through the broker
// what the modules of one PAM transaction ask. The module starts it, with a socket as
// descriptor 3 and nothing else. It never has an answer: these come on a pipe, which
// goes on to the module.
//
// main.go starts it, packets.go has what is said on the socket, serve.go the asking.
package main

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// link is the descriptor of the socket, as pam/helper.c has it too.
const link = 3

// serving says that this is the process that stays.
const serving = "serve"

const usage = `usage: pamprompt-conv

Asks through the broker of pamprompt what PAM modules ask. It is started by
pam_pamprompt.so, with a socket as descriptor 3, and is of no use otherwise.
`

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "pamprompt-conv: %v\n", err) // which is where nobody reads it, when the module has started us
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && slices.Contains([]string{"-h", "-help", "--help"}, args[1]) {
		_, err := io.WriteString(os.Stdout, usage)
		return err
	}
	if len(args) < 1 || len(args) > 2 || len(args) == 2 && args[1] != serving {
		return fmt.Errorf("these arguments are not known: --help says what there is")
	}
	if kind, err := unix.GetsockoptInt(link, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return fmt.Errorf("descriptor %d is no socket of packets: only pam_pamprompt.so starts this program", link)
	}
	if err := secret.ProtectProcess(); err != nil {
		return err
	}
	if len(args) == 1 {
		return leave(args[0])
	}
	f := os.NewFile(link, "the module")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return fmt.Errorf("use descriptor %d: %w", link, err)
	}
	module := c.(*net.UnixConn)
	defer func() { _ = module.Close() }()
	return serve(module, patience, idle)
}

// leave starts the program again and returns, so that what stays is no child of the
// program that PAM runs in: it could wait for its children, and would meet one that it
// does not know.
func leave(name string) error {
	if err := unix.CloseRange(link+1, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS && err != unix.EINVAL {
		return fmt.Errorf("close what is open: %w", err)
	}
	_, err := syscall.ForkExec(name, []string{name, serving}, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []uintptr{0, 1, 2, link}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}
