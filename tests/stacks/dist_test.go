// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// includes are the ways of one stack to have lines of another: those of one group, or all.
var includes = regexp.MustCompile(`(?m)^(?:@include|-?([a-z]+)\s+(?:include|substack))\s+(\S+)$`)

// stubbed is a stack with stubs for what it includes, by absolute paths: libpam looks for other
// names in /etc/pam.d. That for auth asks for a password. Of a stack that is included as a whole
// the name says for which group it is.
func stubbed(t *testing.T, service, stack string) string {
	t.Helper()
	dir := t.TempDir()
	n := 0
	return includes.ReplaceAllStringFunc(stack, func(line string) string {
		found := includes.FindStringSubmatch(line)
		group, name := found[1], found[2]
		if group == "" {
			group = strings.Split(name, "-")[1]
		}
		all := system.Permit()
		if group == "auth" {
			all = system.Matrix(t, service, map[string]string{"nobody": password})
		}
		var stub string
		for line := range strings.Lines(all) {
			if strings.HasPrefix(line, group+" ") {
				stub += line
			}
		}
		n++
		return strings.TrimSuffix(line, name) + write(t, filepath.Join(dir, fmt.Sprint(n)), stub)
	})
}

// shipped are the stacks that are installed, by style and service.
func shipped(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../dist/pam.d/*/*")
	if err != nil {
		t.Fatal(err)
	}
	styles := map[string]map[string]string{}
	for _, file := range files {
		style := filepath.Base(filepath.Dir(file))
		if styles[style] == nil {
			styles[style] = map[string]string{}
		}
		styles[style][filepath.Base(file)] = read(t, file)
	}
	return styles
}

func TestEveryStyleHasTheSameServices(t *testing.T) {
	styles := shipped(t)
	want := slices.Sorted(maps.Keys(styles["debian"]))
	for _, style := range []string{"arch", "debian", "fedora", "suse"} {
		if got := slices.Sorted(maps.Keys(styles[style])); len(got) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s has %v, debian has %v", style, got, want)
		}
	}
}

// Each stack opens a session where what it includes asks for a password. libpam refuses a
// stack of which it does not understand a line.
func TestTheStacksThatAreShipped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this needs root: pam_unix and pam_keyinit open sessions")
	}
	for style, services := range shipped(t) {
		for service, stack := range services {
			t.Run(style+" "+service, func(t *testing.T) {
				if service == "pamprompt-linger" && strings.Contains(lines(stack), "pam_systemd.so") {
					t.Error("it has pam_systemd, which would wait for the manager that waits for us")
				}
				s := system.Start(t, system.Options{Stacks: map[string]string{service: stubbed(t, service, stack)}})
				a := newAgent(t, s)
				session := a.open(service, "nobody", api.Options{})
				a.reply(a.promptOf(session).ID, password)
				a.wait(session, api.StateOpen)
				a.close(session)
			})
		}
	}
}

// A line that is wrong is not passed over.
func TestAStackThatIsWrongOpensNothing(t *testing.T) {
	const service = "pamprompt-linger"
	for name, line := range map[string]string{
		"a group that is none":  "sesion required pam_permit.so\n",
		"no module":             "session required\n",
		"an include of nothing": "session include no-such-stack\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := system.Start(t, system.Options{Stacks: map[string]string{service: system.Permit() + line}})
			a := newAgent(t, s)
			if e := a.run(service, "nobody", api.Options{}); e.State != api.StateFailed || e.PAMResult != 6 {
				t.Errorf("it is %s with PAM status %d, which is not PAM_PERM_DENIED", e.State, e.PAMResult)
			}
		})
	}
}

// lines is a stack without its comments.
func lines(stack string) string {
	return regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(stack, "")
}
