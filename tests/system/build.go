// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Programs are the paths of what Build made.
type Programs struct {
	Dir                    string
	Broker, Client, Worker string
}

var (
	buildTags []string
	buildOnce sync.Once
	built     Programs
	buildErr  error
)

// Build builds the broker and the client without cgo and the worker with it,
// once for each test binary; with the race detector the broker too has it. Main removes them.
func Build(t testing.TB) Programs {
	t.Helper()
	buildOnce.Do(func() { built, buildErr = build() })
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

// BuildTags has Build give these tags to the compiler. It is called before any test.
func BuildTags(tags ...string) { buildTags = tags }

// program is how one of them is built.
type program struct {
	path, cgo string
	flags     []string
}

func build() (Programs, error) {
	dir, err := os.MkdirTemp("", "pamprompt-build-")
	if err != nil {
		return Programs{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // tests run the client as other users too
		return Programs{}, err
	}
	p := Programs{
		Dir: dir, Broker: filepath.Join(dir, "pamprompt-broker"),
		Client: filepath.Join(dir, "pamprompt-client"), Worker: filepath.Join(dir, "pamprompt-worker"),
	}
	broker := program{path: p.Broker, cgo: "0"}
	if raceEnabled { // the broker looks for races where the test does
		broker = program{path: p.Broker, cgo: "1", flags: []string{"-race"}}
	}
	for _, one := range []program{broker, {path: p.Client, cgo: "0"}, {path: p.Worker, cgo: "1"}} {
		args := append([]string{"build", "-tags", strings.Join(buildTags, ","), "-o", one.path}, one.flags...)
		cmd := exec.Command("go", append(args, "github.com/pamprompt/pamprompt/cmd/"+filepath.Base(one.path))...)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED="+one.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			_ = os.RemoveAll(dir)
			return Programs{}, fmt.Errorf("build %s: %w\n%s", filepath.Base(one.path), err, out)
		}
	}
	return p, nil
}

func removeBuild() {
	if built.Dir != "" {
		_ = os.RemoveAll(built.Dir)
	}
}
