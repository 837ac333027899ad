// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
)

// FuzzReply has datagrams judged: an answer is what stands between the sign and the
// first NUL, and nothing else is one.
func FuzzReply(f *testing.F) {
	oob := unix.UnixCredentials(&unix.Ucred{Pid: 1})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		s, err := secret.New(min(len(datagram), secret.Max))
		if err != nil {
			t.Skip(err)
		}
		defer s.Wipe()
		flags := 0
		if copy(s.Bytes(), datagram) < len(datagram) {
			flags = unix.MSG_TRUNC
		}
		reply, err := new(Posted{place: new(Place)}).judge(s, len(s.Bytes()), oob, flags)
		text, isAnswer := bytes.CutPrefix(datagram, []byte("+"))
		text, _, _ = bytes.Cut(text, []byte{0})
		switch {
		case flags != 0 || len(datagram) == 0 || !isAnswer && datagram[0] != '-':
			if err == nil {
				t.Errorf("%q is taken for a reply", datagram)
			}
		case err != nil:
			t.Errorf("%q: %v", datagram, err)
		case !isAnswer || bytes.Equal(text, interrupt):
			if reply.Answer != nil {
				t.Errorf("%q is taken for an answer", datagram)
			}
		case !bytes.Equal(reply.Answer.Bytes(), text):
			t.Errorf("%q is taken for the answer %q", datagram, reply.Answer.Bytes())
		}
	})
}
