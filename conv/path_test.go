// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
)

func TestPathsOfAName(t *testing.T) {
	for _, test := range []struct{ name, path, want string }{
		{"/bin/ls", "/usr/bin", "/bin/ls"},
		{"ls", "/usr/bin:/bin/", "/usr/bin/ls /bin/ls"},
		{"ls", ":.:bin::/bin:", "/bin/ls"},
		{"ls", "", ""},
	} {
		if got := strings.Join(programs(test.name, []string{"PATH=" + test.path}), " "); got != test.want {
			t.Errorf("%s in %q is %q, not %q", test.name, test.path, got, test.want)
		}
	}
}

// The directories of a PATH, by name: what they have of the program.
func programDirs(t *testing.T) *strings.Replacer {
	t.Helper()
	base := t.TempDir()
	source := filepath.Join(base, "source")
	write(t, source, "#!/bin/sh\necho ran $0\n")
	for _, dir := range []string{"good", "other", "closed", "plain", "broken"} {
		path := filepath.Join(base, dir)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		copyFile(t, source, filepath.Join(path, "program"))
	}
	write(t, filepath.Join(base, "broken", "program"), "neither a program nor a script\n")
	write(t, filepath.Join(base, "file"), "")
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "plain/program": 0o644} {
		if err := os.Chmod(filepath.Join(base, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return strings.NewReplacer("{", base+"/", "}", "")
}

// Those of PATH that the user may not enter or execute are not the end of the
// search, and what is said when nothing else is found.
func TestTheSearchOfAProgram(t *testing.T) {
	for _, test := range []struct{ name, path, ran, failed string }{
		{"the first one is run", "{good}:{other}", "{good}", ""},
		{"a directory without it is passed over", "/nosuch:{good}", "{good}", ""},
		{"a file is passed over", "{file}:{good}", "{good}", ""},
		{"a directory that is closed is passed over", "{closed}:{good}", "{good}", ""},
		{"a file that is no program is passed over", "{plain}:{good}", "{good}", ""},
		{"that a directory is closed is said in the end", "{closed}:/nosuch", "", "permission denied"},
		{"that a file is no program is said in the end", "/nosuch:{plain}:{file}", "", "permission denied"},
		{"that there is none is said where nothing else is", "/nosuch:{file}", "", "there is no such program in /nosuch:{file}"},
		{"a program that cannot be run ends the search", "{broken}:{good}", "", "exec format error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newEtc(t)
			dirs := programDirs(t)
			s := command(t, stack(t), "anna", &worker.Command{Arguments: []string{"program"}}, options(func(o *worker.Options) {
				o.Environment = []string{"PATH=" + dirs.Replace(test.path)}
			}))
			if test.failed != "" {
				s.ends("failed CommandFailed 0 run program: " + dirs.Replace(test.failed))
				return
			}
			s.opened()
			if got, want := s.output(), dirs.Replace("ran "+test.ran+"/program\n"); got != want {
				t.Errorf("it said %q, not %q", got, want)
			}
			s.ends("exited 0", "closed 0 the command ended with status 0")
		})
	}
}
