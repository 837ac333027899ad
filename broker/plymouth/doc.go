// SPDX-License-Identifier: Apache-2.0

// Package plymouth shows texts that want no answer ("Place your finger on the
// reader") on the boot splash, while Plymouth runs. It asks nothing and reads
// no key: questions reach Plymouth through systemd's ask-password agent. It
// never waits for Plymouth where others wait for it, keeps nothing for a
// Plymouth that does not run, and says nothing to one that is not root's.
//
//	screen.go what is to be on the screen: one text of each session, the last one of all is shown
//	texts.go  the texts that are held, in their order and bounded
//	wire.go   Plymouth's socket and protocol
package plymouth
