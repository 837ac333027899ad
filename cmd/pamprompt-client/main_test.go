// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
	"github.com/pamprompt/pamprompt/tests/system"
)

// race is for the race detector in the programs that tests start: without it
// each of them sleeps a second before it exits.
const race = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	_ = os.Setenv("GORACE", race)
	testscript.Main(system.Wrapped(m), map[string]func(){
		"pamprompt-client": func() { os.Exit(run(os.Args[1:])) },
	})
}

// options are the stacks of all tests here. Users are named after their tests.
func options(t testing.TB) system.Options {
	probe := modules.Probe(t)
	rest := "\naccount required pam_permit.so\npassword required pam_permit.so\nsession required " + probe + "\n"
	return system.Options{Stacks: map[string]string{
		"permit":        system.Permit(),
		"pamprompt-run": system.Permit(),
		"deny":          system.Deny(),
		"password": "auth required " + probe + " [auth:ask=secret,Password: ] auth:expect=secret auth:export=ANSWER" +
			" [auth:info=almost there]" + rest,
		"stubborn": "auth required " + probe + " auth:converr=PAM_SUCCESS [auth:ask=secret,Password: ]" + rest,
		"factors": "auth required " + probe + " [auth:ask=secret,Password: ] auth:expect=secret" +
			" [auth:info=look at your token] [auth:ask=visible,Code: ] auth:expect=123456 auth:export=CODE" + rest,
		// "red" in red, an 8-bit CSI, the right-to-left override, a new title
		"colours": "auth required " + probe + " auth:info=hex:1b5b33316d7265641b5b306d" +
			" auth:ask=secret,hex:c29b33316d50e280ae1b5d303b7469746c6507494e3a20" + rest,
		"echo":   "auth required " + probe + " [auth:ask=visible,Name: ] auth:export=NAME" + rest,
		"greet":  "auth required " + probe + " auth:info=hello" + rest,
		"binary": "auth required " + probe + " auth:ask=binary,hex:000000060141" + rest,
		// root does not authenticate to run something, but is asked what unlocks a home
		"unclosed": strings.Replace(system.Permit(), "session required pam_permit.so", "session required "+probe+" close:result=PAM_SESSION_ERR", 1),
		"unlock": "auth required " + probe + " auth:result=PAM_AUTH_ERR\naccount required pam_permit.so\nsession required " + probe +
			" open:info=locked [open:ask=secret,Passphrase: ] open:expect=secret close:info=locked-again\n",
	}}
}

// scripts are the commands of our own in testdata.
type scripts struct{ s *system.System }

func TestScripts(t *testing.T) {
	s := scripts{system.Start(t, options(t))}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DBUS_SYSTEM_BUS_ADDRESS", s.s.Address)
			env.Setenv("GORACE", race)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "prompt": s.prompt, "state": s.state, "number": firstNumber, "line": readLine,
		},
	})
}

// exits CODE PROGRAM ARGS...: exec that wants this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want, _ := strconv.Atoi(args[0]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// number VARIABLE: the first number in standard output.
func firstNumber(ts *testscript.TestScript, _ bool, args []string) {
	digits := strings.FieldsFunc(ts.ReadFile("stdout"), func(r rune) bool { return r < '0' || r > '9' })
	if len(args) != 1 || len(digits) == 0 {
		ts.Fatalf("usage: number VARIABLE; standard output must hold a number")
	}
	ts.Setenv(args[0], digits[0])
}

// line FIFO: waits for a line and puts it into standard output.
func readLine(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer func() { _ = f.Close() }()
	text, err := bufio.NewReader(f).ReadString('\n')
	ts.Check(err)
	_, err = fmt.Fprint(ts.Stdout(), text)
	ts.Check(err)
}

// client runs f with a connection and a bound.
func (s scripts) client(ts *testscript.TestScript, f func(context.Context, *api.Client)) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := api.Dial(ctx, s.s.Address)
	ts.Check(err)
	defer func() { _ = c.Close() }()
	f(ctx, c)
}

// prompt USER: waits until there is a prompt for the user and sets $PROMPT and
// $SESSION.
func (s scripts) prompt(ts *testscript.TestScript, _ bool, args []string) {
	s.client(ts, func(ctx context.Context, c *api.Client) {
		w, err := c.Watch(ctx, api.WatchOptions{Agent: true})
		ts.Check(err)
		defer w.Close()
		for e := range w.Events() {
			if p, ok := e.(api.Prompt); ok && p.User == args[0] {
				ts.Setenv("PROMPT", strconv.FormatUint(p.ID, 10))
				ts.Setenv("SESSION", strconv.FormatUint(p.Session, 10))
				return
			}
		}
		ts.Fatalf("no prompt for %s has come: %v", args[0], w.Err())
	})
}

// state STATE: waits until $SESSION has reached it. Once its owner has left, a
// session that has ended is forgotten.
func (s scripts) state(ts *testscript.TestScript, _ bool, args []string) {
	s.client(ts, func(ctx context.Context, c *api.Client) {
		id, err := strconv.ParseUint(ts.Getenv("SESSION"), 10, 64)
		ts.Check(err)
		err = c.Session(id).Wait(ctx, args[0])
		if args[0] != api.StateClosed || !errors.Is(err, api.NoSuchSession) {
			ts.Check(err)
		}
	})
}
