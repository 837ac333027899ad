// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
	"github.com/pamprompt/pamprompt/api/secret"
)

// hear waits for whatever comes.
func (r *rig) hear() happened { r.t.Helper(); return <-r.seen.c }

func secretOf(t testing.TB, text string) *secret.Secret {
	t.Helper()
	s, err := secret.Read(bytes.NewReader([]byte(text)))
	check(t, err)
	t.Cleanup(s.Wipe)
	return s
}

func TestAnAnswerReachesSystemd(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	shell(t, "mount", "-t", "tmpfs", "tmpfs", "/run")
	r := run(t, protocol.System)
	cmd := exec.Command("systemd-ask-password", "--no-tty", "--timeout=0", "--id=disk:x", "Pass phrase:")
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	q := r.hear()
	if q.end != "" || q.q.Message != "Pass phrase:" || q.q.ID != "disk:x" || q.q.PID != cmd.Process.Pid {
		t.Fatalf("heard %v: %+v", q, q.q)
	}
	check(t, q.q.Answer(secretOf(t, "correct horse")))
	if answer, err := io.ReadAll(out); string(answer) != "correct horse\n" || err != nil {
		t.Errorf("it got %q, %v", answer, err)
	}
	check(t, cmd.Wait())
	if end := r.hear(); end.q != q.q || end.end == "" {
		t.Errorf("heard %v", end)
	}

	cmd = exec.Command("systemd-ask-password", "--no-tty", "--timeout=0", "?")
	check(t, cmd.Start())
	q = r.hear()
	check(t, cmd.Process.Kill())
	r.expect(q.name + " died")
	_ = cmd.Wait()
	within(r.Adapter, r.scan)
	r.silent()

	cmd = exec.Command("systemd-ask-password", "--no-tty", "--timeout=1", "?")
	check(t, cmd.Start())
	q = r.hear()
	if end := r.hear(); end.q != q.q {
		t.Errorf("heard %v", end)
	}
	_ = cmd.Wait()
	r.log.exactly(t, 0, "level=WARN")
}

func TestSystemdsAgentAnswers(t *testing.T) {
	const program = "/lib/systemd/systemd-reply-password"
	if _, err := os.Stat(program); err != nil {
		t.Skipf("%v: the Debian package systemd has it", err)
	}
	if !inNamespace(t) {
		return
	}
	shell(t, "mount", "-t", "tmpfs", "tmpfs", "/run")
	r := run(t, protocol.System)
	replies := make(chan protocol.Reply, 1)
	r.Post(protocol.Request{Message: "Password:", PID: os.Getpid()}, func(reply protocol.Reply) { replies <- reply })
	settled(r.Adapter)
	cmd := exec.Command(program, "1", filepath.Join(r.dir, ours(t, r.dir)[1]))
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	_, err = io.WriteString(in, "hunter2")
	check(t, err)
	check(t, in.Close())
	check(t, cmd.Wait())
	reply := <-replies
	defer reply.Answer.Wipe()
	if string(reply.Answer.Bytes()) != "hunter2" || reply.UID != 0 {
		t.Error("the reply is another")
	}
}
