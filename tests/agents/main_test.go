// SPDX-License-Identifier: Apache-2.0

// Package agents tests pamprompt with systemd's own password agents, with
// Plymouth, and with programs that ask such agents. The broker and all of them
// see a /run that is the test's own, in mount namespaces, so the machine's
// questions and agents have no part in it. It holds nothing but tests.
//
//	main_test.go      what stands around all tests
//	bench_test.go     a system whose /run is the test's own, and sessions that ask
//	bus_test.go       somebody on D-Bus who is told of everything
//	requests_test.go  the directory of requests: what is in it, and who waits for it to change
//	programs_test.go  programs in that /run, also on a terminal
//	tty_test.go       systemd-tty-ask-password-agent
//	reply_test.go     systemd-reply-password, and what no agent may say
//	asker_test.go     other programs that ask, and other users on D-Bus
//	race_test.go      several answer at the same instant, and one wins
//	mirror_test.go    what stands in a request, and when it goes
//	fallback_test.go  the option ask-password
//	hostile_test.go   what modules and callers say that is no good
//	restart_test.go   the broker ends or is killed while questions wait
//	inbox_test.go     what other programs ask is answered over D-Bus
//	withdrawn_test.go what other programs ask no more, and what is no question
//	user_test.go      the user's own directory
//	plymouth_test.go  plymouthd on a terminal
package agents

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// patience bounds what must happen; nothing waits for it to pass.
const patience = 30 * time.Second

// within is a context that ends a test that hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// packages has the Debian package of each program that tests run.
var packages = map[string]string{
	"systemd-tty-ask-password-agent": "systemd",
	"systemd-ask-password":           "systemd",
	replyPassword:                    "systemd",
	"busctl":                         "systemd",
	"plymouthd":                      "plymouth",
	"plymouth":                       "plymouth",
	"unshare":                        "util-linux",
	"nsenter":                        "util-linux",
	"setpriv":                        "util-linux",
}

// needs skips a test that this machine cannot run.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root: a mount namespace with a /run of its own")
	}
	for _, name := range append([]string{"unshare"}, programs...) {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is missing: the Debian package %s has it", name, packages[name])
		}
	}
}
