// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/conv/convtest"
)

const someLimits = `echo soft=$(ulimit -Sn); echo hard=$(ulimit -Hn); echo core=$(ulimit -Sc); echo hardcore=$(ulimit -Hc)
`

// ofWorker is what the worker of a test is started with, of which Go makes 5000:5000.
const ofWorker = "files=1000:5000"

// mayRaise tells whether root may raise a hard limit here; in containers nobody may.
func mayRaise(t *testing.T) bool {
	t.Helper()
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return has == 1
}

// Go raises its own soft limit of open files, and the worker forbids itself core
// files: neither is for the command. What pam_limits sets is, also where no limit that
// was lowered can be raised again. What is not in its file, pam_limits takes from
// elsewhere.
func TestLimits(t *testing.T) {
	for _, worker := range []struct {
		name  string
		under under
		may   bool
	}{
		{"of a worker that may raise them where root may", under{ofWorker}, mayRaise(t)},
		{"of a worker that may not raise them", under{ofWorker, "no-resource"}, false},
	} {
		t.Run(worker.name, func(t *testing.T) {
			for _, test := range limitCases() {
				if test.raises && !worker.may {
					t.Logf("without CAP_SYS_RESOURCE there are none %s", test.name)
					continue
				}
				t.Run(test.name, func(t *testing.T) {
					newEtc(t)
					dir := stack(t, "session required {limits} conf={dir}/limits")
					write(t, filepath.Join(dir, "limits"), test.conf)
					wantFacts(t, worker.under.facts(t, dir, "anna", someLimits), test.want)
				})
			}
		})
	}
}

type limitCase struct {
	name, conf string
	want       map[string]string
	raises     bool // a hard limit
}

func limitCases() []limitCase {
	core := firstLimits().core // of this process; os/exec gives the worker the same
	return []limitCase{
		{"that nobody sets", "", map[string]string{
			"soft": "1000", "hard": "5000", "core": shown(core.Cur, 512), "hardcore": shown(core.Max, 512),
		}, false},
		{"of open files, both lower", "anna soft nofile 512\nanna hard nofile 768\n", map[string]string{"soft": "512", "hard": "768"}, false},
		{"of open files, the soft one lower", "anna soft nofile 512\nanna hard nofile 5000\n", map[string]string{"soft": "512", "hard": "5000"}, false},
		{"of open files, the soft one higher", "anna soft nofile 2000\nanna hard nofile 5000\n", map[string]string{"soft": "2000", "hard": "5000"}, false},
		{"of open files, those of Go", "anna - nofile 5000\n", map[string]string{"soft": "5000", "hard": "5000"}, false},
		{"of open files, both higher", "anna soft nofile 6000\nanna hard nofile 7000\n", map[string]string{"soft": "6000", "hard": "7000"}, true},
		{"of core files", "anna soft core 1000\n", map[string]string{"core": "2000", "hardcore": shown(core.Max, 512)}, false},
		{"of core files, those of the worker", "anna - core 0\n", map[string]string{"core": "0", "hardcore": "0"}, false},
	}
}

// shown is a limit as the shell shows it.
func shown(l uint64, unit uint64) string {
	if l == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(l/unit, 10)
}

// What modules start has them too.
func TestModulesSeeTheLimitsThatTheWorkerWasStartedWith(t *testing.T) {
	dir := stack(t, "auth required {probe} [auth:run=ulimit -Sn > {dir}/soft]")
	_, process, peer := under{ofWorker}.run(t, dir)
	convtest.Play(peer, convtest.Start("test", "root"))
	process.Wait()
	if got := lines(t, filepath.Join(dir, "soft")); got[0] != "1000" {
		t.Errorf("what a module starts may have %s files open", got[0])
	}
}

// The worker has fewer than it was started with by then, core files for one, and so may
// modules of other phases have left it.
func TestTheSessionBeginsWithTheLimitsThatTheWorkerWasStartedWith(t *testing.T) {
	newEtc(t)
	dir := stack(t, "auth required {probe} auth:limit-files=20")
	wantFacts(t, under{ofWorker}.facts(t, dir, "anna", someLimits), map[string]string{"soft": "1000", "hard": "5000"})
}

// What the session may have open is not what the worker may: it has to dial the
// broker, and libpam the audit system. Nor may a core file hold what modules keep.
func TestTheLimitsOfTheSessionAreNotTheWorkers(t *testing.T) {
	for _, test := range []struct {
		name, conf string
		command    string // what it may have open
		files      unix.Rlimit
	}{
		{"the soft one can be raised", "anna soft nofile 20\nanna hard nofile 5000\n", "20", unix.Rlimit{Cur: 1000, Max: 5000}},
		{"the hard one cannot, but the soft one up to it", "anna soft nofile 20\nanna hard nofile 100\n", "20", unix.Rlimit{Cur: 100, Max: 100}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t)
			dir := stack(t, "session required {limits} conf={dir}/limits")
			write(t, filepath.Join(dir, "limits"), test.conf+"anna soft core 1000\n")
			s := under{ofWorker, "no-resource"}.command(t, dir, "anna", shell("ulimit -Sn; read -r line"))
			s.opened()
			if got := s.line(); got != test.command {
				t.Errorf("the command may have %s files open", got)
			}
			if got := s.limit(unix.RLIMIT_NOFILE); got != test.files {
				t.Errorf("the worker may have %+v files open, not %+v", got, test.files)
			}
			if got := s.limit(unix.RLIMIT_CORE); got.Cur != 0 {
				t.Errorf("the core file of the worker may have %+v bytes", got)
			}
			_ = s.in.Close()
			s.ends("exited 1", "closed 0 the command ended with status 1")
		})
	}
}

// limit is one of the worker's.
func (s *commanded) limit(resource int) (l unix.Rlimit) {
	s.t.Helper()
	if err := unix.Prlimit(s.process.Pid, resource, nil, &l); err != nil {
		s.t.Fatal(err)
	}
	return l
}
