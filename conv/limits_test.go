// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const someLimits = `echo soft=$(ulimit -Sn); echo hard=$(ulimit -Hn); echo core=$(ulimit -Sc); echo hardcore=$(ulimit -Hc)
`

// Go raises its own limit of open files, and the worker forbids itself core
// files: neither is for the command. What pam_limits sets is.
func TestLimits(t *testing.T) {
	first := firstLimits() // of this process; os/exec gives the worker the same
	shown := func(l uint64, unit uint64) string {
		if l == unix.RLIM_INFINITY {
			return "unlimited"
		}
		return strconv.FormatUint(l/unit, 10)
	}
	for _, test := range []struct {
		name, conf string
		want       map[string]string
	}{
		{"that nobody sets", "", map[string]string{
			"soft": shown(first.files.Cur, 1), "hard": shown(first.files.Max, 1),
			"core": shown(first.core.Cur, 512), "hardcore": shown(first.core.Max, 512),
		}},
		{"of open files", "anna soft nofile 512\nanna hard nofile 768\n", map[string]string{"soft": "512", "hard": "768"}},
		{"of open files that the process may raise", fmt.Sprintf("anna soft nofile 512\nanna hard nofile %d\n", first.files.Max), map[string]string{
			"soft": "512", "hard": shown(first.files.Max, 1),
		}},
		{"of core files", "anna soft core 1000\n", map[string]string{"core": "2000", "hardcore": shown(first.core.Max, 512)}},
		{"of open files that are those of Go", fmt.Sprintf("anna - nofile %d\n", first.files.Max), map[string]string{
			"soft": shown(first.files.Max, 1), "hard": shown(first.files.Max, 1),
		}},
		{"of core files that are those of the worker", "anna - core 0\n", map[string]string{"core": "0", "hardcore": "0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t)
			dir := stack(t, "session required {limits} conf={dir}/limits")
			write(t, filepath.Join(dir, "limits"), test.conf)
			wantFacts(t, facts(t, dir, "anna", someLimits), test.want)
		})
	}
}

// What the session may have open is not what the worker may: it has to dial the
// broker, and libpam the audit system.
func TestFewOpenFilesAreTheCommandsAlone(t *testing.T) {
	newEtc(t)
	dir := stack(t, "session required {probe} open:limit-files=20")
	s := command(t, dir, "anna", shell("ulimit -Sn; read -r line"))
	s.opened()
	if got := s.line(); got != "20" {
		t.Errorf("the command may have %s files open", got)
	}
	var own unix.Rlimit
	if err := unix.Prlimit(s.process.Pid, unix.RLIMIT_NOFILE, nil, &own); err != nil || own != firstLimits().files {
		t.Errorf("the worker may have %d (%v)", own.Cur, err)
	}
	_ = s.in.Close()
	s.ends("exited 1", "closed 0 the command ended with status 1")
}
