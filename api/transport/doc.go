// SPDX-License-Identifier: Apache-2.0

// Package transport is the socket below godbus, for a program that anybody on a
// bus may send messages to, the broker and every agent alike. godbus's own
// (5.2.4) is no match for them: it takes up to 128 MiB from whoever sends it; a
// message that it cannot decode (a dictionary with boolean keys) ends the
// connection; an array of descriptors makes it panic; and descriptors that a
// body does not mention stay open for ever, with nobody knowing their numbers.
//
// So Stream reads one message at a time, bounds it, decodes it once on trial
// and keeps the descriptors, or closes them. godbus believes that its transport
// cannot pass descriptors: `h` values stay indices (dbus.UnixFDIndex), and those
// that arrive are had by Claim, those to send are given with Attach.
//
//	transport.go  the stream: authentication with descriptors, messages in and out
//	input.go      what arrives: messages one by one, and the descriptors of each
//	attach.go     descriptors that ride along
//	header.go     the fixed part and the fields of a message, without its body
package transport
