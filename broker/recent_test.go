// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"runtime"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/policy"
)

// What is remembered of a prompt keeps nothing alive of the message that opened its
// session: thousands of prompts are remembered, for as long as the broker runs.
func TestAPromptThatIsRememberedKeepsNoMessage(t *testing.T) {
	const many, message = 1000, 4 << 10
	var r recent
	before := heap()
	for i := range uint64(many) {
		text := strings.Repeat("x", message) // as godbus has it, with all strings of a message
		r.add(past{number: i, object: policy.Object{Service: text[:4], User: text[4:8]}, outcome: "answered"})
	}
	if each := (heap() - before) / many; each > message/4 {
		t.Errorf("each prompt that is remembered takes %d bytes", each)
	}
	runtime.KeepAlive(&r)
}

// heap is what is in use of it, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
