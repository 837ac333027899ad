// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"bytes"
	"encoding/binary"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
)

// FuzzReply has pam/reply.c take what fuzzing makes, in a process with sanitizers,
// which ends when something is wrong. `make fuzz` runs libFuzzer too, if there is
// clang: that sees which ways the code takes.
func FuzzReply(f *testing.F) {
	binary := filepath.Join(f.TempDir(), "fuzz")
	cmd := exec.Command("gcc", append(append([]string{}, strict...), "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-DFROM_STANDARD_INPUT", "-o", binary, "fuzz_reply.c", "../../pam/reply.c")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("build it: %v\n%s", err, out)
	}
	parser := startParser(f, binary)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := parser.take(data); err != nil {
			t.Fatalf("%v\n%s", err, parser.wrong.String())
		}
	})
}

type parser struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   io.Reader
	wrong bytes.Buffer
}

func startParser(t testing.TB, binary string) *parser {
	t.Helper()
	p := &parser{cmd: exec.Command(binary)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &p.wrong
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = p.cmd.Wait()
	})
	return p
}

// take gives it one input. An error means that it has ended.
func (p *parser) take(data []byte) error {
	if len(data) > 1<<17 {
		return nil
	}
	packet := binary.NativeEndian.AppendUint32(nil, uint32(len(data)))
	if _, err := p.in.Write(append(packet, data...)); err != nil {
		_ = p.cmd.Wait()
		return err
	}
	if _, err := io.ReadFull(p.out, make([]byte, 1)); err != nil {
		_ = p.cmd.Wait()
		return err
	}
	return nil
}
