// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// plant is the variable that makes the test binary a process that holds what is
// in a file, from the offset on that its last argument says.
const plant = "PAMPROMPT_MEMORY_TEST"

func hold(path string) error {
	var offset int
	if _, err := fmt.Sscan(os.Args[len(os.Args)-1], &offset); err != nil {
		return err
	}
	mem, err := unix.Mmap(-1, 0, 3*chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if _, err := f.Read(mem[offset:]); err != nil {
		return err
	}
	if offset%2 == 1 {
		if err := unix.Mprotect(mem, unix.PROT_NONE); err != nil { // out of everybody's sight
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// holder starts a process that holds a text, and returns its number.
func holder(t *testing.T, text []byte, offset int) int {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "planted")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(own, fmt.Sprint(offset))
	cmd.Env = append(os.Environ(), plant+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	return cmd.Process.Pid
}

func TestACopyThatIsThereIsFound(t *testing.T) {
	needRoot(t)
	k := newSecret()
	for _, f := range k.forms {
		t.Run(f.name, func(t *testing.T) {
			hits := scan(t, holder(t, f.bytes, 100), k)
			if len(hits) != 1 || hits[0].form != f.name {
				t.Errorf("what was found is %v", hits)
			}
		})
	}
	for name, offset := range map[string]int{
		"at the beginning":                        0,
		"across pages":                            pageSize - 10,
		"across what is read at once":             chunk - 10,
		"at the end":                              3*chunk - size,
		"behind pages that were never written to": 2*chunk + 5*pageSize,
		"in memory that nobody may read":          pageSize + 1,
	} {
		t.Run(name, func(t *testing.T) {
			var found []string
			for _, h := range scan(t, holder(t, []byte(k.text), offset), k) {
				found = append(found, h.form)
			}
			if strings.Join(found, ", ") != "the first half, the second half" {
				t.Errorf("what was found is %q", found)
			}
		})
	}
	t.Run("in the environment", func(t *testing.T) {
		cmd := exec.Command("cat")
		cmd.Env = []string{"X=" + k.text}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdin.Close(); _ = cmd.Wait() }()
		if len(scan(t, cmd.Process.Pid, k)) == 0 {
			t.Error("it was not found")
		}
	})
	t.Run("and none where there is none", func(t *testing.T) {
		if hits := scan(t, holder(t, []byte(newSecret().text), 100), k); hits != nil {
			t.Errorf("what was found is %v", hits)
		}
	})
}
