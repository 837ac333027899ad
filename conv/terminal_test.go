// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
	"github.com/pamprompt/pamprompt/tests/pty"
)

func firstOf(peer *convtest.Peer, words ...string) *worker.ToBroker {
	for {
		m := peer.Next()
		for _, word := range words {
			if strings.HasPrefix(convtest.Describe(m), word) {
				return m
			}
		}
	}
}

func TestTheControllingTerminal(t *testing.T) {
	master, slave := pty.Open(t)
	start := func(name string, slave *os.File) (*convtest.Process, *convtest.Peer) {
		_, process, peer := run(t, stack(t))
		c := shell("exec 3<>/dev/tty && echo " + name + " has it >&3; read -r line")
		c.Stdio, c.Terminal = true, true
		peer.Start(convtest.Start("test", "root", func(s *worker.Start) { s.Command = c }), slave, slave, slave)
		return process, peer
	}
	process, peer := start("first", slave)
	buffer := make([]byte, 100)
	if m := firstOf(peer, "opened", "failed"); m.GetFailed() != nil {
		t.Fatal(convtest.Describe(m))
	}
	n, err := master.Read(buffer)
	if got := string(buffer[:n]); got != "first has it\r\n" {
		t.Errorf("the terminal shows %q (%v)", got, err)
	}
	t.Run("of another session is not taken away", func(t *testing.T) {
		process, peer := start("second", slave)
		wantSaid(t, convtest.Continue(peer)[6:], "entering close-session", "entering delete-credentials", "entering end",
			"failed CommandFailed 0 make the first of stdio the controlling terminal: operation not permitted")
		process.Wait()
	})
	t.Run("has to be one", func(t *testing.T) {
		reader, _ := ends(t)
		process, peer := start("third", reader)
		peer.Expect("failed InvalidArgument 0 the first of stdio is no terminal: inappropriate ioctl for device")
		process.Wait()
	})
	if _, err := master.WriteString("done\n"); err != nil {
		t.Fatal(err)
	}
	for peer.Next().GetClosed() == nil {
	}
	process.Wait()
}
