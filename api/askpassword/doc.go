// SPDX-License-Identifier: Apache-2.0

// Package askpassword is systemd's password agent protocol, as
// https://systemd.io/PASSWORD_AGENTS/ has it, from both sides: a question is a
// file that agents find in a directory, and the answer a datagram to the socket
// that the file names. It decides nothing about who is asked what, watches
// nothing, and follows no link.
//
//	request.go what stands in a request file: Format and Parse, pure functions
//	ini.go     the lines of such a file, if they are such as every reader understands alike
//	ask.go     the request for a question of a worker
//	line.go    the one line that an agent shows, made of what modules and callers say
//	place.go   a directory of requests, held open, and the sweep of what a dead process left
//	post.go    a request of ours: its file and its socket
//	reply.go   a datagram of an agent, on its way into locked memory
//	find.go    a request of somebody else, and the answer to it
package askpassword
