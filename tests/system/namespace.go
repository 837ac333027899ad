// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Mount puts a directory in the place of one of the machine's.
type Mount struct{ From, To string }

// StartInNamespace is StartOnBus with a broker that runs, with its pool, in a
// mount namespace of its own, where the mounts hide what the machine has. A
// broker that is started again gets a new namespace with the same mounts. There
// is no --pam-dir: the stacks are those of the /etc/pam.d that it sees, unless
// BrokerArgs say otherwise. It needs root.
func StartInNamespace(t testing.TB, mounts []Mount, o Options) *OnBus {
	t.Helper()
	s := &OnBus{System: newSystem(t, o)}
	inside := filepath.Join(s.Dir, "in-namespace")
	if err := os.WriteFile(inside, []byte(mountAndExec(mounts)), 0o600); err != nil {
		t.Fatal(err)
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatalf("%v: the Debian package util-linux has it", err)
	}
	s.startBus(t)
	t.Cleanup(func() { s.Stop(t) })
	// Each of these becomes the next one by exec, so that signals reach the
	// broker.
	broker := s.Broker
	s.Broker, s.PAMDir = unshare, "/etc/pam.d"
	s.args = append([]string{"--mount", "--propagation", "private", "/bin/sh", inside, broker,
		"--worker", s.Worker, "--socket", s.socket(), noAgents}, o.BrokerArgs...)
	if o.Network != "" {
		s.inNetwork(t, o.Network)
	}
	s.Restart(t)
	return s
}

// inNetwork has the broker run in another network namespace too.
func (s *OnBus) inNetwork(t testing.TB, file string) {
	t.Helper()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Fatalf("%v: the Debian package util-linux has it", err)
	}
	s.Broker, s.args = nsenter, append([]string{"--net=" + file, s.Broker}, s.args...)
}

// mountAndExec is a shell script that becomes the program that it is given.
func mountAndExec(mounts []Mount) string {
	var b strings.Builder
	b.WriteString("set -eu\n")
	for _, m := range mounts {
		fmt.Fprintf(&b, "mount --bind '%s' '%s'\n", m.From, m.To)
	}
	b.WriteString("exec \"$@\"\n")
	return b.String()
}
