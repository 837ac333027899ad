// SPDX-License-Identifier: Apache-2.0

// Package bus is the broker's connection to a message bus, as a service that
// every local user may call. Every method goes through one wrapper (who calls,
// how many at once, what if it panics, which errors may cross the bus, closing
// of descriptors), and signals go to one receiver or to all by an explicit
// choice. It knows no session and no prompt; the bytes of messages are the
// matter of api/transport.
//
//	conn.go     the connection: dialling, names, signals out
//	outbox.go   what waits to be sent
//	call.go     the wrapper around every method call
//	turns.go    how many calls of one uid, and how fast
//	reply.go    descriptors in replies
//	peers.go    who is who: credentials from the bus, and who has left
//	process.go  the process behind a connection: its unit, and whether it still is that one
//	realbus.go  whether an address is the machine's own system bus
package bus
