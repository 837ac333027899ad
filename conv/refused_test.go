// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
)

func TestCommandsThatCannotBe(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain, "true\n")
	notOurs := filepath.Join(t.TempDir(), "no-program")
	copyFile(t, "/etc/passwd", notOurs)
	for _, test := range []struct {
		name    string
		user    string
		command *worker.Command
		text    string
	}{
		{"a program that is not there", "anna", &worker.Command{Arguments: []string{"/nosuch"}}, "run /nosuch: no such file or directory"},
		{"a name that is nowhere", "anna", &worker.Command{Arguments: []string{"no-such-program"}},
			"run no-such-program: there is no such program in " + userPath},
		{"a program in a directory that the user may not enter", "anna", &worker.Command{Arguments: []string{plain}}, "run " + plain + ": permission denied"},
		{"a directory as a program", "anna", &worker.Command{Arguments: []string{"/"}}, "run /: permission denied"},
		{"a program that is none", "anna", &worker.Command{Arguments: []string{notOurs}}, "run " + notOurs + ": exec format error"},
		{"a directory that is not there", "anna", &worker.Command{Arguments: []string{"true"}, Directory: "/nosuch"}, "enter /nosuch: no such file or directory"},
		{"a directory that is not the user's", "anna", &worker.Command{Arguments: []string{"true"}, Directory: "/root"}, "enter /root: permission denied"},
		{"a home that is not there", "anna", &worker.Command{Arguments: []string{"true"}, Directory: "~"}, "enter /nonexistent: no such file or directory"},
		{"a home that is somebody else's", "bert", &worker.Command{Arguments: []string{"true"}, Directory: "~"}, "enter /root: permission denied"},
		{"a user that nobody knows", "nobody-knows", &worker.Command{Arguments: []string{"true"}}, "NSS does not know the user nobody-knows"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("passwd", "root:x:0:0:root:/root:/bin/sh\nanna:x:60001:60000::/nonexistent:/bin/sh\nbert:x:60002:60000::/root:/bin/sh\n")
			s := command(t, stack(t, logged("")...), test.user, test.command)
			s.ends("failed CommandFailed 0 " + test.text)
			if got := s.output(); got != "" {
				t.Errorf("it printed %q", got)
			}
		})
	}
	t.Run("too many processes of the user", func(t *testing.T) {
		e := newEtc(t)
		// Nobody else's uid: its processes are counted.
		e.write("passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nanna:x:%d:60000::/nonexistent:/bin/sh\n", 1<<24+os.Getpid()))
		dir := stack(t, append(logged(""), "session required {limits} conf={dir}/limits")...)
		write(t, filepath.Join(dir, "limits"), "anna - nproc 0\n")
		first := command(t, dir, "anna", shell("read -r line"))
		first.opened()
		second := command(t, dir, "anna", shell("true"))
		second.ends("failed CommandFailed 0 run /bin/sh: resource temporarily unavailable")
		log := lines(t, filepath.Join(dir, "log"))
		if want := []string{"open", "close", "delcred", "end 0"}; !slices.Equal(log[len(log)-4:], want) {
			t.Errorf("the module saw %q in the end, not %q", log, want)
		}
		_ = first.in.Close()
		first.ends("exited 1", "closed 0 the command ended with status 1")
	})
}
