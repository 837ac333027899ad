// SPDX-License-Identifier: Apache-2.0

package conv

// #include "spawn.h"
import "C"

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// limits are those that this process has changed for itself, and that modules
// (pam_limits) are to see, and the command to get, as they were.
type limits struct {
	files, core unix.Rlimit
}

// firstLimits are those that the process was started with.
func firstLimits() limits {
	return limits{files: limitOf(C.first_files), core: limitOf(C.first_core)}
}

func limitOf(l C.struct_rlimit) unix.Rlimit {
	return unix.Rlimit{Cur: uint64(l.rlim_cur), Max: uint64(l.rlim_max)}
}

func (l limits) c() (files, core C.struct_rlimit) {
	return C.struct_rlimit{rlim_cur: C.rlim_t(l.files.Cur), rlim_max: C.rlim_t(l.files.Max)},
		C.struct_rlimit{rlim_cur: C.rlim_t(l.core.Cur), rlim_max: C.rlim_t(l.core.Max)}
}

// set makes them this process's, each as far as it may: without CAP_SYS_RESOURCE a
// hard limit that was lowered stays, and the soft one goes up to it.
func (l limits) set() error {
	var failed error
	for _, one := range []struct {
		name     string
		resource int
		limit    unix.Rlimit
	}{
		{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, l.files},
		{"RLIMIT_CORE", unix.RLIMIT_CORE, l.core},
	} {
		if err := unix.Setrlimit(one.resource, &one.limit); err != nil {
			failed = errors.Join(failed, fmt.Errorf("set %s: %w", one.name, err), setBelow(one.resource, one.limit))
		}
	}
	return failed
}

// setBelow sets a limit, but no higher than the hard one that there is.
func setBelow(resource int, limit unix.Rlimit) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	limit.Max = min(limit.Max, now.Max)
	limit.Cur = min(limit.Cur, limit.Max)
	return unix.Setrlimit(resource, &limit)
}

// limitsNow are what modules have made of them.
func limitsNow() (limits, error) {
	var l limits
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l.files)
	if err == nil {
		err = unix.Getrlimit(unix.RLIMIT_CORE, &l.core)
	}
	return l, err
}

// lendLimits has open_session run under the limits that this process was started
// with: what it leaves is the command's. Only root may raise them again; for
// others they stay as they are.
func (t *transaction) lendLimits() {
	if t.command == nil {
		return
	}
	if err := firstLimits().set(); err != nil {
		t.log.Debug("the command gets limits of the worker's own", "error", err)
	}
}

// takeLimits notes what open_session has left for the command, and goes on with
// the worker's own: with few open files it could not talk to the broker.
func (t *transaction) takeLimits() error {
	if t.command == nil {
		return nil
	}
	var err error
	if t.limits, err = limitsNow(); err != nil {
		return err
	}
	// And no core file; lowering the hard limit would take it from the command too,
	// where nobody may raise it again.
	own := limits{files: firstLimits().files, core: unix.Rlimit{Max: t.limits.core.Max}}
	if err := own.set(); err != nil {
		t.log.Warn("the worker goes on with limits of the session", "error", err)
	}
	return nil
}
