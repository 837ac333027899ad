// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/api"
)

// memory is what a process has in memory, in MiB.
func memory(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// Ten thousand; a fifth with the race detector.
func TestAModuleThatAsksWithoutEnd(t *testing.T) {
	t.Parallel()
	b := start(t, map[string]string{"asks": stack(t, fmt.Sprint("fault auth:ask=", questions))})
	victim := b.agent(false)
	s := victim.open("asks", api.Options{Agent: true, AskPassword: api.AskPasswordNo})
	worker := victim.leader(s)
	broker, began := b.broker(), time.Now()
	var before [2]int
	for i := 1; i <= questions; i++ {
		p := victim.prompt(s)
		if i == 100 { // when both have warmed up
			before = [2]int{memory(t, broker), memory(t, worker)}
		}
		if i == questions {
			after := [2]int{memory(t, broker), memory(t, worker)}
			saw(t, "%d questions of one module in %v: the broker had %d MiB and has %d, the worker %d and %d",
				questions, time.Since(began).Round(100*time.Millisecond), before[0], after[0], before[1], after[1])
			if after[0] > before[0]+64 || after[1] > before[1]+32 {
				t.Errorf("memory has grown from %d to %d MiB", before, after)
			}
		}
		victim.reply(p.ID, strconv.Itoa(i))
	}
	victim.wait(s, api.StateOpen)
	victim.leave()
	b.unharmed()
}

// A module says 8 MB, a kilobyte at a time.
func TestAModuleThatTellsMegabytes(t *testing.T) {
	t.Parallel()
	const texts = 8000
	b := start(t, map[string]string{"tells": stack(t, fmt.Sprint("fault auth:tell=", texts))})
	victim := b.agent(false)
	before := memory(t, b.broker())
	s := victim.open("tells", api.Options{Agent: true})
	for i := 1; i <= texts; i++ {
		m := next(victim, func(m api.Message) bool { return m.Session == s.ID() })
		if !strings.HasPrefix(m.Text.Text, fmt.Sprint(i, " ")) {
			t.Fatalf("text %d begins with %.20s", i, m.Text.Text)
		}
	}
	victim.wait(s, api.StateOpen)
	after := memory(t, b.broker())
	saw(t, "%d texts of a kilobyte: the broker had %d MiB and has %d", texts, before, after)
	if after > before+96 {
		t.Errorf("the broker had %d MiB and has %d", before, after)
	}
	victim.leave()
	b.unharmed()
}
