// SPDX-License-Identifier: Apache-2.0

// Package askpassword joins the broker to a directory of systemd's password
// agents, in both directions: questions of ours become requests there, and
// requests that others put there are told to the broker. It takes what stands
// there as far as api/askpassword trusts it, and decides nothing about who may
// answer what. It never reads a request of ours back, asks nobody twice for the
// same file, and holds no thread while it waits.
//
// One goroutine, Run's, owns all state but the postings that are wanted. The
// kernel tells of changes; the only clock is a slow one, while something fails
// whose end nobody tells of.
//
//	adapter.go   New and Run, and what is said and done when something fails
//	posting.go   out: what we ask
//	inbox.go     in: which files are requests, and which are told of
//	inquiry.go   one request of somebody else, from its first sight to its end
//	process.go   whether whoever asks still runs
//	directory.go which directory it is, also when it goes and comes back
//	inotify.go   changes of files
//	mounts.go    changes of mounts
package askpassword
