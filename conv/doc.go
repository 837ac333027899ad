// SPDX-License-Identifier: Apache-2.0

// Package conv is the PAM side of pamprompt: one process, one PAM transaction,
// and all that is worth knowing about it. The broker is a view of what is held
// here, so it may go away and come back at any moment.
//
// In the order in which things happen: link.go dials the broker, and dials
// again, and hands each packet to session.go, which is the state of the
// session under one lock, with what the broker is told about it; worker.go
// waits there for a Start, with a session keyring of its own from keyring.go, lookup.go tells the broker meanwhile who has a uid, and
// sweep.go clears away what a dead worker left. transaction.go is the PAM recipe, from pam_start to pam_end, to be read
// top to bottom, and phases.go each call of it; alternative.go is where one of several transactions
// waits until it may go on; names.go finds the service, and identity.go who the user is, and
// who asked; conversation.go is what modules talk to, with binary.go for the
// packets of libpamc, command.go and spawn.c start the command in the session, under
// the limits of limits.go, and processes.go waits for the last of its processes; supplied.go for an answer that an administrator left in a
// credential, and mirror.go for the copy of a question that the user's own agents see, in the
// directory that userdir.go opens with the user's identity; result.go says in
// the words of the contract how it ended. guard.go and guard.c are for modules
// that call the conversation wrongly, delay.go and delay.c for the time that a
// failure takes, wipe.c for what modules leave on the stack, and libc.go is the C library where Go has
// no call for it.
//
// What it refuses: PAM state is never used twice, a question is never answered
// twice, no secret is ever printed or outlives the call of libpam that wanted
// it, and nothing of D-Bus is known here. The process around it, and the pool
// that starts it, are cmd/pamprompt-worker.
package conv
