// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/tests/system"
)

// CVE-2021-4034 of polkit: a program that is started without even its name. The
// broker would start for real; its own tests have it.
func TestAProgramThatIsStartedWithoutAName(t *testing.T) {
	built := system.Build(t)
	for program, says := range map[string]string{built.Client: "which command?", built.Worker: "one of --pool and --idle is needed"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		// Since 5.18 the kernel puts an empty name there.
		process, err := os.StartProcess(program, nil, &os.ProcAttr{Files: []*os.File{nil, nil, w}})
		_ = w.Close()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		_, _ = r.WriteTo(&text)
		_ = r.Close()
		state, err := process.Wait()
		if err != nil || state.ExitCode() != 2 || !strings.Contains(text.String(), says) {
			t.Errorf("%s ends with %v, %v and says %q", program, state, err, &text)
		}
	}
}
