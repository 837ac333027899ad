// SPDX-License-Identifier: Apache-2.0

package broker

import "testing"

func TestVersionsOfSystemd(t *testing.T) {
	for text, want := range map[string]int{
		"252.38-1~deb12u1":        252,
		"257.9-0ubuntu2":          257,
		"262-1":                   262,
		"258":                     258,
		"v258":                    0,
		"":                        0,
		"99999999999999999999999": 0,
	} {
		if got := systemdVersion(text); got != want {
			t.Errorf("%q is version %d, not %d", text, got, want)
		}
	}
}
