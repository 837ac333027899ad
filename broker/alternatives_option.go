// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"slices"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

// setAlternatives bounds services that are to run beside the main one. Each is
// checked as that is.
func setAlternatives(o *opening, services []string) error {
	if len(services) < 1 || len(services) > api.MaxAlternatives {
		return fmt.Errorf("has %d services, not 1 to %d", len(services), api.MaxAlternatives)
	}
	for i, service := range services {
		if err := checkService(service); err != nil {
			return fmt.Errorf("has a service that is none: %v", err)
		}
		if slices.Contains(services[:i], service) {
			return fmt.Errorf("has %s twice", quote(service))
		}
	}
	o.alternatives = services
	return nil
}

// checkAlternatives is for what the services of a session are together.
func (o *opening) checkAlternatives(main string) error {
	if slices.Contains(o.alternatives, main) {
		return invalid("option %s has %s, which is the service of the session already: name others", api.OptionAlternatives, quote(main))
	}
	if len(o.alternatives) > 0 && len(o.Phases) > 0 && !slices.Contains(o.Phases, worker.Phase_PHASE_AUTHENTICATE) {
		return invalid("option %s has services authenticate side by side, and option %s leaves authenticate out: add it, or leave out option %s",
			api.OptionAlternatives, api.OptionPhases, api.OptionAlternatives)
	}
	return nil
}
