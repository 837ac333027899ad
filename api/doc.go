// SPDX-License-Identifier: Apache-2.0

// Package api is the contract of pamprompt and the Go client library for it.
//
// The broker, a service on the system bus, runs PAM for programs that have no
// terminal. A program opens a session; whatever the PAM modules ask goes as
// prompts to agents, who answer; then the session is open until it is closed.
// The same client does all three jobs: it opens sessions, it answers prompts,
// it watches both.
//
//	client, err := api.Connect(ctx)
//	session, err := client.Open(ctx, "myservice", "anna", api.Options{Reason: "nightly backup"})
//	err = session.Wait(ctx, api.StateOpen)
//	...
//	err = session.Close(ctx)
//
// The owner of a session is the bus connection, so the session ends when the
// Client is closed or its process dies, unless it was opened with Linger.
//
// An agent watches with WatchOptions.Agent and gets every prompt that it may
// answer. A program that wants to answer for its own sessions opens them with
// Options.Agent and watches without: it must start to watch before it opens,
// because the first prompt may arrive before the reply to Open does. The
// Watcher keeps such prompts, so it is enough to read Events once Open has
// returned. The example of the package does that.
//
// The library waits on signals and never holds an unanswered call open, of
// which dbus-daemon allows 128 on a connection: one Client can wait for
// thousands of sessions. A restart of the broker does not end a Session.Wait
// or a Watcher.
//
// Errors of the broker are *Error and can be tested by code:
//
//	if errors.Is(err, api.TimedOut) { ... }
//
// A bus or a broker that is not there is ErrNoBus or ErrNoBroker. A Client does not
// outlive its bus: what it does then fails with ErrNoBus, its Watchers end with it, and
// so do its sessions without Linger. A program that goes on all the same, such as an
// agent, has Client.Redial make another one as soon as that can be; docs/examples/agent
// does.
//
// Answers are secret.Secret and travel as sealed memfds; no answer is ever in a
// D-Bus message, a Go string or an error of this package.
//
// The package asks nothing and prints nothing: the terminal belongs to
// cmd/pamprompt-client. Which file holds what:
//
//	names.go    the D-Bus names, states, styles, options and limits
//	errors.go   the codes of the contract
//	fault.go    what godbus reports, turned into those and ErrNoBus, ErrNoBroker
//	client.go   the connection
//	redial.go   another one, when the bus has ended and come again
//	manager.go  the calls of the Manager interface
//	options.go  the options of OpenSession
//	session.go  one session: properties, Wait, Close
//	conversation.go questions of a program that runs PAM itself
//	response.go     ... and their answers
//	descriptors.go  what the replies to Ask bring along
//	prompt.go   prompts and their details
//	signals.go  signals in their order, and who the broker is
//	event.go    what a watcher tells
//	watch.go    watchers and agents
//
// Below it, package secret holds answers in memory, package transport is the
// socket below godbus, which is no match for hostile senders, and package worker
// the protocol between the broker and its workers, which no client needs.
package api
