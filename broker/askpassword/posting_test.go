// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	protocol "github.com/pamprompt/pamprompt/api/askpassword"
)

func TestPostWritesARequestAndCloseRemovesIt(t *testing.T) {
	r := run(t, tempDir(t))
	p := r.Post(protocol.Request{Message: "anna (login): Password:"}, func(protocol.Reply) {})
	settled(r.Adapter)
	count(t, r.dir, 1)
	raw, err := os.ReadFile(filepath.Join(r.dir, ours(t, r.dir)[0]))
	check(t, err)
	if !strings.Contains(string(raw), "Message=anna (login): Password:\n") {
		t.Errorf("the file is %q", raw)
	}
	p.Close()
	count(t, r.dir, 0)
	p.Close()
	(*Posting)(nil).Close()
}

func TestPostKeepsTheOrder(t *testing.T) {
	r := newRig(t, tempDir(t))
	w, err := newWatcher()
	check(t, err)
	defer w.close()
	_, err = w.add(r.dir, onDirectory)
	check(t, err)
	r.postMany(50)
	r.start()
	count(t, r.dir, 50)
	buffer := make([]byte, eventsBuffer)
	n, err := w.file.Read(buffer)
	check(t, err)
	// parseEvents leaves out what is ours.
	moved := parseEvents([]byte(strings.ReplaceAll(string(buffer[:n]), "pamprompt-", "pamprompt+")))
	i := 0
	for _, e := range moved {
		if !strings.HasPrefix(e.name, "ask.") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(r.dir, strings.ReplaceAll(e.name, "+", "-")))
		check(t, err)
		if want := fmt.Sprintf("Message=question %d\n", i); !strings.Contains(string(raw), want) {
			t.Fatalf("file %d is %q", i, raw)
		}
		i++
	}
	if i != 50 {
		t.Errorf("%d files came", i)
	}
}

func TestAPostingThatIsClosedBeforeItsTurnIsNeverWritten(t *testing.T) {
	r := newRig(t, tempDir(t))
	w, err := newWatcher()
	check(t, err)
	defer w.close()
	_, err = w.add(r.dir, onAncestor)
	check(t, err)
	for _, p := range r.postMany(3) {
		p.Close()
	}
	r.start()
	write(t, filepath.Join(r.dir, "end"), "")
	buffer := make([]byte, eventsBuffer)
	n, err := w.file.Read(buffer)
	check(t, err)
	if strings.Contains(string(buffer[:n]), "pamprompt-") {
		t.Error("something was written")
	}
}

func TestAPostingThatIsClosedInItsTurnIsNotWritten(t *testing.T) {
	r := run(t, tempDir(t))
	p := r.postMany(1)[0]
	p.Close()
	within(r.Adapter, func() {
		if err := p.write(r.place); err != nil {
			t.Error(err)
		}
	})
	count(t, r.dir, 0)
}

func TestAThousandPostingsLeaveNothing(t *testing.T) {
	r := run(t, tempDir(t))
	before := runtime.NumGoroutine()
	postings := r.postMany(1000)
	settled(r.Adapter)
	count(t, r.dir, 1000)
	var wait sync.WaitGroup
	for part := range slices.Chunk(postings, 100) {
		wait.Go(func() {
			for _, p := range part {
				p.Close()
			}
		})
	}
	wait.Wait()
	count(t, r.dir, 0)
	if len(r.wanted) != 0 {
		t.Errorf("%d are still wanted", len(r.wanted))
	}
	r.silent() // none of ours was read back
	r.stop()
	t.Logf("goroutines: %d before, %d after", before, runtime.NumGoroutine()) // goleak sees those that stay
}

func TestPostingsThatAreClosedWhileTheyAreWrittenLeaveNothing(t *testing.T) {
	r := run(t, tempDir(t))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 100 {
				p := r.Post(protocol.Request{Message: "?"}, func(protocol.Reply) {})
				runtime.Gosched()
				p.Close()
			}
		})
	}
	wait.Wait()
	count(t, r.dir, 0)
	r.log.exactly(t, 0, "level=WARN")
}

func TestTheEndOfRunRemovesWhatIsOursAndNothingElse(t *testing.T) {
	r := run(t, tempDir(t))
	ask(t, r.dir, "ask.foreign", "")
	r.expect("ask.foreign")
	postings := r.postMany(10)
	settled(r.Adapter)
	r.stop()
	if names := all(t, r.dir); !slices.Equal(names, []string{"ask.foreign"}) {
		t.Errorf("left: %q", names)
	}
	r.postMany(1)[0].Close()
	for _, p := range postings {
		p.Close()
	}
	if len(r.seen.c) != 0 {
		t.Errorf("heard %v after the end", <-r.seen.c)
	}
}

func TestRepliesComeUntilClose(t *testing.T) {
	r := run(t, tempDir(t))
	replies := make(chan protocol.Reply, 10)
	p := r.Post(protocol.Request{Message: "?"}, func(reply protocol.Reply) { replies <- reply })
	settled(r.Adapter)
	socket := filepath.Join(r.dir, ours(t, r.dir)[1])
	agent, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	check(t, err)
	defer agent.Close()
	_, err = agent.Write([]byte("+hunter2"))
	check(t, err)
	reply := <-replies
	if string(reply.Answer.Bytes()) != "hunter2" || reply.UID != uint32(os.Geteuid()) || reply.PID != int32(os.Getpid()) {
		t.Error("the reply is another")
	}
	reply.Answer.Wipe()
	p.Close()
	if _, err := agent.Write([]byte("+late")); err == nil {
		t.Error("the socket still takes answers")
	}
}

func TestAReplyThatComesWithTheCloseIsWiped(t *testing.T) {
	a := New(tempDir(t), slog.New(slog.DiscardHandler), nothing{})
	p := a.Post(protocol.Request{}, func(protocol.Reply) { t.Error("it was handed on") })
	p.Close()
	late := protocol.Reply{Answer: secretOf(t, "hunter2")}
	p.deliver(late)
	p.deliver(protocol.Reply{})
	if late.Answer.Len() != 0 {
		t.Error("it was not wiped")
	}
}

// child is a process that has posted.
func child(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(cmd.Environ(), postInto+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	_, err = cmd.StdinPipe() // ends with us
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "posted\n" {
		t.Fatalf("the child said %q: %v", line, err)
	}
	return cmd
}

func TestWhatADeadBrokerLeftIsSweptAndNothingElse(t *testing.T) {
	dir := tempDir(t)
	child(t, dir)
	live := ours(t, dir)
	killed := child(t, dir)
	count(t, dir, 2*postedByChild)
	check(t, killed.Process.Kill())
	_ = killed.Wait()
	count(t, dir, 2*postedByChild)

	ask(t, dir, "ask.foreign", "")
	write(t, filepath.Join(dir, "sck.foreign"), "")
	keep := []string{"ask.foreign", "sck.foreign", "ask.pamprompt-folder"}
	check(t, os.Mkdir(filepath.Join(dir, "ask.pamprompt-folder"), 0o755))
	if os.Geteuid() == 0 {
		ask(t, dir, "ask.pamprompt-another", "")
		check(t, os.Chown(filepath.Join(dir, "ask.pamprompt-another"), 12345, 12345))
		keep = append(keep, "ask.pamprompt-another")
	}
	r := run(t, dir)
	want := slices.Sorted(slices.Values(slices.Concat(live, keep)))
	if names := all(t, dir); !slices.Equal(names, want) {
		t.Errorf("%d names are there, want %d", len(names), len(want))
	}
	r.expect("ask.foreign")
	r.silent()
}
