// SPDX-License-Identifier: Apache-2.0

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Programs are the paths of what Build made.
type Programs struct {
	Dir                    string
	Broker, Client, Worker string
}

var (
	buildOnce sync.Once
	built     Programs
	buildErr  error
)

// Build builds the broker and the client without cgo and the worker with it,
// once for each test binary. Main removes them.
func Build(t testing.TB) Programs {
	t.Helper()
	buildOnce.Do(func() { built, buildErr = build() })
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

func build() (Programs, error) {
	dir, err := os.MkdirTemp("", "pamprompt-build-")
	if err != nil {
		return Programs{}, err
	}
	p := Programs{
		Dir: dir, Broker: filepath.Join(dir, "pamprompt-broker"),
		Client: filepath.Join(dir, "pamprompt-client"), Worker: filepath.Join(dir, "pamprompt-worker"),
	}
	for _, one := range []struct{ path, cgo string }{{p.Broker, "0"}, {p.Client, "0"}, {p.Worker, "1"}} {
		cmd := exec.Command("go", "build", "-o", one.path, "github.com/pamprompt/pamprompt/cmd/"+filepath.Base(one.path))
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
