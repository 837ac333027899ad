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
