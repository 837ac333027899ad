// SPDX-License-Identifier: Apache-2.0

package security

import (
	"strings"
	"syscall"
	"testing"

	"github.com/pamprompt/pamprompt/tests/system"
)

// A broker reads its rules again on SIGHUP. What it cannot read changes
// nothing, and it says where.
func TestSIGHUPReadsTheRulesAgain(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens})
	opener, other := b.join(t, system.Opener), b.join(t, system.Other)
	may := func(p *person) bool { return p.manager("OpenSession", "permit", "anna", options{}).Err == nil }
	if !may(opener) || may(other) {
		t.Fatal("the first rules do not count")
	}
	for _, c := range []struct {
		name, text    string
		opener, other bool
	}{
		{"others", strings.ReplaceAll(opens, "60001", "60002"), false, true},
		{"not TOML", "[[rule", false, true},
		{"a key that there is not", opens + "colour = 1\n", false, true},
		{"the first again", opens, true, false},
		{"none", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := reloads(b.Log())
			b.WriteRules(t, "test.toml", c.text)
			b.Signal(t, syscall.SIGHUP)
			b.AwaitLog(t, func(log string) bool { return reloads(log) > before })
			if got := may(opener); got != c.opener {
				t.Errorf("the opener may: %v", got)
			}
			if got := may(other); got != c.other {
				t.Errorf("the other may: %v", got)
			}
		})
	}
	for _, text := range []string{"test.toml:1", "test.toml:13"} {
		if !strings.Contains(b.Log(), text) {
			t.Errorf("the log does not name %s", text)
		}
	}
}

// reloads is how often a broker has read its rules again, and said so.
func reloads(log string) int {
	return strings.Count(log, "rules reloaded") + strings.Count(log, "those that were read before stay in force")
}

// A broker that cannot read its rules at first has none: it denies.
func TestABrokerWithRulesThatCannotBeReadDenies(t *testing.T) {
	b := start(t, system.MachineOptions{Policy: opens + "colour = 1\n"})
	wantDenied(t, "to open", b.join(t, system.Opener).manager("OpenSession", "permit", "anna", options{}).Err)
	open(t, b.root, "permit", "anna", nil)
}
