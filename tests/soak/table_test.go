// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"strings"
	"testing"
)

// column is what was in use at one time.
type column struct {
	head string
	usage
}

// table prints what was in use, a line for each figure.
func table(t testing.TB, columns ...column) {
	t.Helper()
	line := fmt.Sprintf("%-28s", "")
	for _, c := range columns {
		line += fmt.Sprintf("%16s", c.head)
	}
	saw(t, "%s", line)
	for _, f := range fields {
		line := fmt.Sprintf("%-28s", f.name)
		for _, c := range columns {
			line += fmt.Sprintf("%16s", written(f.name, c.usage))
		}
		saw(t, "%s", line)
	}
}

func written(name string, u usage) string {
	value, known := u.of[name]
	switch {
	case !known:
		return "-"
	case strings.HasSuffix(name, "SS"), strings.HasSuffix(name, "heap"):
		return fmt.Sprintf("%d KiB", value>>10)
	}
	return fmt.Sprint(value)
}
