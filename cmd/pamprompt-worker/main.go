// SPDX-License-Identifier: Apache-2.0

// Command pamprompt-worker runs PAM for pamprompt-broker.
//
// With --pool it keeps a few idle workers and starts the next one as soon as
// one has got a session; with --idle it is one of them. It links libpam, and
// the modules run in it, so that the broker need not. Nothing goes to standard
// output; standard error has the log, which holds no answer.
//
// main.go has the flags, pool.go and cgroup.go the pool, process.go and fault.c what makes
// the process fit for modules, memory.go and heap.c what makes it fit for answers;
// PAM itself is package conv.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pamprompt/pamprompt/conv"
	"github.com/pamprompt/pamprompt/journal"
)

// The main goroutine stays on the main thread, which PAM needs.
func init() { runtime.LockOSThread() }

// credentials is the variable by which systemd tells a service where its
// credentials are. The pool passes it on; modules do not see it.
const credentials = "CREDENTIALS_DIRECTORY"

// journalStream is the variable by which systemd tells a service that its
// standard error is the journal, in which the log has fields then.
const journalStream = "JOURNAL_STREAM"

const usage = `usage: pamprompt-worker --pool --socket PATH [--pam-dir DIR] [--size N]
       pamprompt-worker --idle --socket PATH [--pam-dir DIR]

Runs PAM for pamprompt-broker, which listens on the socket. The broker of a
private bus starts the pool itself; elsewhere pamprompt-worker.service does.

  --pool         keep idle workers, and start the next one when one is taken
  --idle         be one worker: wait for a session, run it, end
  --socket PATH  the socket of the broker
  --pam-dir DIR  take the PAM stacks from there, not from /etc/pam.d
  --size N       how many idle workers; the default is the number of CPUs
  --broker-timeout D
                 close a session that does not linger when the broker has been
                 away for so long; 0 is never, the default is 5m
  --log-level L  debug, info, warn or error; the default is info
`

// flags is the command line.
type flags struct {
	pool, idle     bool
	socket, pamDir string
	size           int
	brokerTimeout  time.Duration
	level          slog.Level
}

func main() {
	f, err := parse(os.Args[min(1, len(os.Args)):]) // whoever starts us may leave the name out (CVE-2021-4034)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "pamprompt-worker: %v\n\n%s", err, usage)
		os.Exit(2)
	}
	log := journal.Logger("pamprompt-worker", f.level)
	if err := run(f, log); err != nil {
		log.Error("pamprompt-worker ends", "pid", os.Getpid(), "error", err)
		os.Exit(1)
	}
}

func run(f *flags, log *slog.Logger) error {
	if f.pool {
		return runPool(f, log)
	}
	config := conv.Config{Socket: f.socket, PAMDir: f.pamDir, Pool: poolSocket(), Log: log,
		BrokerTimeout: f.brokerTimeout, Credentials: os.Getenv(credentials)}
	if err := harden(); err != nil { // empties the environment
		return err
	}
	haveThreads()
	if err := lockMemory(); err != nil {
		log.Debug(unlocked, "error", err) // the pool has said it
	}
	return conv.Work(config)
}

func parse(args []string) (*flags, error) {
	f := new(flags)
	set := flag.NewFlagSet("pamprompt-worker", flag.ContinueOnError)
	set.SetOutput(io.Discard) // main says it
	set.BoolVar(&f.pool, "pool", false, "")
	set.BoolVar(&f.idle, "idle", false, "")
	set.StringVar(&f.socket, "socket", "", "")
	set.StringVar(&f.pamDir, "pam-dir", "", "")
	set.IntVar(&f.size, "size", max(2, runtime.NumCPU()), "")
	set.DurationVar(&f.brokerTimeout, "broker-timeout", 5*time.Minute, "")
	set.TextVar(&f.level, "log-level", slog.LevelInfo, "")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case set.NArg() > 0:
		return nil, fmt.Errorf("there is no argument %q", set.Arg(0))
	case f.pool == f.idle:
		return nil, errors.New("one of --pool and --idle is needed")
	case f.socket == "":
		return nil, errors.New("--socket is needed: the path on which the broker listens, such as /run/pamprompt/broker.sock")
	case f.brokerTimeout < 0:
		return nil, errors.New("--broker-timeout must be a duration such as 5m, or 0 for never")
	case f.size < 1 || f.size > 1024:
		return nil, errors.New("--size must be 1 to 1024")
	}
	return f, f.absolute()
}

// absolute makes the paths independent of the working directory, which a worker
// leaves.
func (f *flags) absolute() (err error) {
	if f.socket, err = filepath.Abs(f.socket); err != nil {
		return err
	}
	if f.pamDir == "" {
		return nil
	}
	if f.pamDir, err = filepath.Abs(f.pamDir); err != nil {
		return err
	}
	if info, err := os.Stat(f.pamDir); err != nil || !info.IsDir() {
		return fmt.Errorf("--pam-dir %s is not a directory with PAM stacks in it", f.pamDir)
	}
	return nil
}
