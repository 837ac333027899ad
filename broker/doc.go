// SPDX-License-Identifier: Apache-2.0

// Package broker is the broker: it holds what there is to know about sessions,
// prompts and agents, in one place and one order, and shows it on D-Bus. It runs
// no PAM, reads no answer to a module, starts no process and keeps no file; what it
// knows of a session it was told by that session's worker, and can be told again.
//
// In the order of the data:
//
//	bus/          the connection to the bus, and the wrapper around each call
//	objects.go    from a call's path, interface and member to a function; introspection
//	properties.go what Get, GetAll and GetManagedObjects answer
//	manager.go    the members of org.pamprompt.Broker1.Manager
//	sessions.go   the members of org.pamprompt.Broker1.Session
//	options.go    the arguments of OpenSession, bounded and checked
//	alternatives_option.go further services of a session
//	command.go    those of a process in the session, and what is known of it
//	authorize.go  whether a caller may: rules, polkit, and the same no for all
//	accounts.go   names of callers' accounts, for rules about one's own
//	lists.go      ListSessions, ListPrompts
//	audit.go      who did what, in the journal
//	answer.go     an answer on its way from a caller to a worker
//	descriptor.go a caller's descriptor made into a sealed memfd, unread
//	broker.go     the one owner of the state: a queue of functions, run one by one
//	client.go     who is on the bus, what they own, what they were told
//	limits.go     how much one uid may have
//	vetting.go    which agents polkit lets hear what
//	gate.go       answers that PAM checks one after the other
//	session.go    a session: an object with an owner, a state, and questions
//	transaction.go what one worker does in PAM for it
//	starting.go   how transactions get their workers
//	alternatives.go several transactions side by side, of which one goes on
//	endings.go    how those ended that do not, also under another broker
//	takeover.go   how a session is taken over
//	conversation.go the questions of a program that runs PAM itself
//	ask.go        ... and what it may ask: OpenConversation and Ask, bounded and checked
//	response.go   the pipes on which it has its answers
//	splice.go     ... which nobody reads on the way there
//	closing.go    its end, and how long that may take
//	packets.go    what a transaction's worker says
//	prompt.go     a prompt: a slot that is taken once
//	mirror.go     its copy for systemd's password agents, and texts on the boot splash
//	inbox.go      what other programs ask those agents: prompts without a session
//	numbers.go    numbers that never come twice in one boot
//	askpassword/  the ask-password directory, in both directions
//	polkit/       questions to polkit
//	plymouth/     the boot splash
//	workers/      the worker socket and the idle workers
//
// Everything from client.go to prompt.go runs in the owner's goroutine; what is
// before that hands it functions with Broker.do and never touches the state
// otherwise.
package broker
