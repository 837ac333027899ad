// SPDX-License-Identifier: Apache-2.0

package conv

import "golang.org/x/sys/unix"

// joinKeyring gives this thread a session keyring that is new. The one of whoever
// started the pool would go to each command that no module (pam_keyinit) gives
// another, and who has a session keyring may read and write it, whoever it
// belongs to: users would have the keys of the service, and each other's. Modules
// too put there what is for one session. The keyring has no name (NULL, which
// unix.KeyctlJoinSessionKeyring cannot say): named ones can be joined by others.
func joinKeyring() error {
	_, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
