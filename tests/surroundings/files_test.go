// SPDX-License-Identifier: Apache-2.0

package surroundings

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

// The broker has room for a few sessions more, and then for nothing: no worker, no
// descriptor of a message, no memfd.
func TestDescriptorsOfTheBrokerRunOut(t *testing.T) {
	needRoot(t)
	b := start(t)
	goesOn, journal := b.bystander(), b.journal()
	s := b.open(b.here, "ask", api.Options{Linger: true})
	p := b.promptOf(s)
	lift := system.LimitFiles(t, b.BrokerPID(), 6)
	before, began := system.ProcessorTime(t, b.BrokerPID()), time.Now()
	var opened []*api.Session
	for {
		one, err := b.here.Open(within(t), "permit", "root", api.Options{Linger: true})
		if err != nil {
			if !errors.Is(err, api.LimitExceeded) || !strings.Contains(err.Error(), "too many open files") {
				t.Errorf("a session too many: %v", err)
			}
			break
		}
		if opened = append(opened, one); len(opened) > 20 {
			t.Fatal("they do not run out")
		}
	}
	wantFiles := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, api.LimitExceeded) || !strings.Contains(err.Error(), "too many open files") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// One may be left, which the next worker would have.
	hoard := system.LimitFiles(t, b.BrokerPID(), 0)
	wantFiles("an answer in a descriptor", b.give(b.here, p.ID))
	for range 100 { // that pass by, and find the broker as it is
		if _, err := b.here.Sessions(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	took, used := time.Since(began), system.ProcessorTime(t, b.BrokerPID())-before
	journal.says("workers cannot be accepted")
	hoard()
	lift()
	b.AwaitLog(t, func(string) bool { return strings.Contains(journal.text(), "workers can be accepted again") })
	if err := b.give(b.here, p.ID); err != nil {
		t.Errorf("with room again the answer is refused: %v", err)
	}
	b.wait(s, api.StateOpen)
	for _, one := range append(opened, s) {
		b.wait(one, api.StateOpen)
		b.close(one)
	}
	goesOn()
	journal.says("workers cannot be accepted")
	if used > took/2+time.Second {
		t.Errorf("the broker used %v of a processor in %v", used, took)
	}
	saw(t, "after %d more sessions the broker had no descriptor left: the next one and an answer were refused, and in %v it used %v of a processor; with room again the same prompt was answered",
		len(opened), took.Round(time.Millisecond), used)
}
