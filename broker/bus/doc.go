// SPDX-License-Identifier: Apache-2.0

// Package bus is the broker's connection to a message bus, as a service that
// every local user may call. It stands between godbus and the socket and does
// what a hostile caller makes necessary: messages are bounded and decoded once
// on trial before godbus sees them, every descriptor that arrives is closed
// unless a member takes it, every method goes through one wrapper (who calls,
// how many at once, what if it panics, which errors may cross the bus), and
// signals go to one receiver or to all by an explicit choice. It knows no
// session and no prompt.
//
//	stream.go   the socket: authentication with descriptors, one message at a time
//	header.go   the fixed part and the fields of a message, without its body
//	conn.go     the connection: dialling, names, signals out
//	call.go     the wrapper around every method call
//	peers.go    who is who: credentials from the bus, and who has left
//	realbus.go  whether an address is the machine's own system bus
package bus
