// SPDX-License-Identifier: Apache-2.0

// Command pamprompt-broker serves org.pamprompt.Broker1. It writes its log to
// standard error (package journal) and, with --private-bus, one line to
// standard output: the address of that bus, when it serves. It exits with 0
// after SIGTERM or SIGINT, 2 when it was called wrongly, else with 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/broker"
	"github.com/pamprompt/pamprompt/journal"
	"github.com/pamprompt/pamprompt/policy"
)

// version is set by the linker.
var version = "0.1.0-dev"

// The children of --private-bus end with the thread that started them, so
// that must be the one that ends last.
func init() { runtime.LockOSThread() }

type flags struct {
	privateBus   bool
	worker       string
	pamDir       string
	socket       string
	logLevel     slog.Level
	closeTimeout time.Duration
	askPassword  string
	userFiles    string
	policy       string
}

var whens = []broker.UserFiles{broker.UserFilesAuto, broker.UserFilesYes, broker.UserFilesNo}

func parseFlags(args []string) (*flags, error) {
	f := new(flags)
	set := flag.NewFlagSet("pamprompt-broker", flag.ContinueOnError)
	set.BoolVar(&f.privateBus, "private-bus", false, "start a dbus-daemon and a pool of workers of our own, and print\n"+
		"DBUS_SYSTEM_BUS_ADDRESS=... when they serve; both end with us")
	set.StringVar(&f.worker, "worker", "", "start the pool of workers ourselves, from this `program`\n"+
		"(with --private-bus the default is pamprompt-worker beside this program)")
	set.StringVar(&f.pamDir, "pam-dir", "", "take the PAM services from this `directory`; not on the system bus")
	set.StringVar(&f.socket, "socket", "", "where the workers dial, a `path` (default /run/pamprompt/broker.sock,\n"+
		"with --private-bus a fresh directory)")
	set.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	set.DurationVar(&f.closeTimeout, "close-timeout", 10*time.Second, "how long PAM may take to unwind when a session is closed")
	set.StringVar(&f.askPassword, "ask-password", "", "ask systemd's password agents too, and take up what other programs ask them,\n"+
		"in this `directory`; empty for neither (default "+protocol.System+", with --private-bus empty)")
	set.StringVar(&f.userFiles, "user-ask-password", string(broker.UserFilesAuto), "ask users' own agents about themselves too: `when`, yes, no, or\n"+
		"auto for on systemd 257 or later")
	set.StringVar(&f.policy, "policy", "", "take the rules of who may do what from this `directory`; SIGHUP reads them again\n"+
		"(default "+policy.Dir+", with --private-bus none)")
	showVersion := set.Bool("version", false, "print the version")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if *showVersion {
		fmt.Println("pamprompt-broker", version)
		return nil, flag.ErrHelp
	}
	given := make(map[string]bool)
	set.Visit(func(option *flag.Flag) { given[option.Name] = true })
	if !f.privateBus { // agents and rules of the system have no business on a private bus
		if !given["ask-password"] {
			f.askPassword = protocol.System
		}
		if !given["policy"] {
			f.policy = policy.Dir
		}
	}
	var wrong error
	switch {
	case set.NArg() > 0:
		wrong = fmt.Errorf("unexpected argument %q", set.Arg(0))
	case !slices.Contains(whens, broker.UserFiles(f.userFiles)):
		wrong = fmt.Errorf("--user-ask-password=%s is none of %s, %s and %s", f.userFiles, whens[0], whens[1], whens[2])
	case f.askPassword != "" && !filepath.IsAbs(f.askPassword):
		wrong = fmt.Errorf("--ask-password=%s is no absolute path", f.askPassword)
	case f.policy != "" && !filepath.IsAbs(f.policy):
		wrong = fmt.Errorf("--policy=%s is no absolute path", f.policy)
	case f.closeTimeout < time.Second:
		wrong = fmt.Errorf("--close-timeout=%v is under a second", f.closeTimeout)
	case f.pamDir != "" && f.worker == "" && !f.privateBus:
		wrong = errors.New("--pam-dir needs --private-bus or --worker: workers that others start are told theirs by them")
	}
	if wrong != nil {
		fmt.Fprintf(os.Stderr, "pamprompt-broker: %v; see --help\n", wrong)
	}
	return f, wrong
}

func main() {
	f, err := parseFlags(arguments())
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := journal.Logger("pamprompt-broker", f.logLevel)
	err = harden()
	if err == nil {
		err = run(ctx, f, log)
	}
	if err != nil {
		_, _ = fmt.Fprintf(journal.Stderr, "pamprompt-broker: %v\n", err) // which holds nobody up
		os.Exit(1)
	}
}
