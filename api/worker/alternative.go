// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"slices"
	"strings"
)

// checkAlternative wants services that are different names, of which the Start's
// own is the one that it says. What does not authenticate cannot be first at it.
func checkAlternative(s *Start) error {
	a := s.GetAlternative()
	if a == nil {
		return nil
	}
	services := a.GetServices()
	if len(services) < 2 || len(services) > MaxAlternatives {
		return fmt.Errorf("start.alternative.services are not 2 to %d", MaxAlternatives)
	}
	for i, service := range services {
		switch {
		case service == "" || len(service) > MaxName || strings.ContainsRune(service, 0):
			return fmt.Errorf("start.alternative.services has one that is empty, over %d bytes or holds a NUL", MaxName)
		case slices.Contains(services[:i], service):
			return fmt.Errorf("start.alternative.services has one twice")
		}
	}
	if int(a.GetIndex()) >= len(services) || services[a.GetIndex()] != s.GetService() {
		return fmt.Errorf("start.alternative.index is not that of start.service")
	}
	if phases := s.GetOptions().GetPhases(); len(phases) > 0 && !slices.Contains(phases, Phase_PHASE_AUTHENTICATE) {
		return fmt.Errorf("start.alternative does not authenticate")
	}
	return nil
}

// checkEnded wants one end of one alternative.
func checkEnded(e *Ended) error {
	switch {
	case e.GetIndex() >= MaxAlternatives:
		return fmt.Errorf("ended.index is not below %d", MaxAlternatives)
	case (e.GetClosed() == nil) == (e.GetFailed() == nil):
		return fmt.Errorf("ended has not one of closed and failed")
	case e.GetFailed() != nil:
		return checkFailed(e.GetFailed())
	}
	return checkResult(e.GetClosed().GetText())
}

// checkSideBySide wants of an alternative what one can be, and each of the others at
// most once.
func checkSideBySide(s *Session) error {
	a := s.GetStart().GetAlternative()
	if a == nil && (s.GetReady() || s.GetProceeds()) || s.GetProceeds() && !s.GetReady() {
		return fmt.Errorf("hello describes an alternative that none is, or that goes on without having been ready")
	}
	var seen uint32
	for _, e := range s.GetEnded() {
		if err := checkEnded(e); err != nil {
			return err
		}
		if int(e.GetIndex()) >= len(a.GetServices()) || e.GetIndex() == a.GetIndex() || seen&(1<<e.GetIndex()) != 0 {
			return fmt.Errorf("hello describes the end of what is no other alternative, or one twice")
		}
		seen |= 1 << e.GetIndex()
	}
	return nil
}
