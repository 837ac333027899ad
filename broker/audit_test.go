// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"testing"
	"time"
)

// A uid that is refused all the time is told of now and then, with how often it
// was not; others are told of as if it were not there.
func TestRefusalsAreToldSoOften(t *testing.T) {
	const uid, other = 60001, 60002
	var r refusals
	now := time.Unix(1, 0)
	for i := range refusalBurst {
		if left, ok := r.take(uid, now); !ok || len(left) > 0 {
			t.Fatalf("refusal %d is told: %v, with %v", i+1, ok, left)
		}
	}
	for _, c := range []struct {
		name  string
		uid   uint32
		later time.Duration
		want  string // what goes with it, if it is told
		ok    bool
	}{
		{"one more", uid, 0, "[]", false},
		{"and another", uid, 0, "[]", false},
		{"somebody else's", other, 0, "[]", true},
		{"a third", uid, 0, "[]", false},
		{"after a while", uid, time.Second / refusalRate, "[left-out=3]", true},
		{"with it", uid, 0, "[]", false},
		{"after a long time", uid, time.Hour, "[left-out=1]", true},
		{"next", uid, 0, "[]", true},
	} {
		now = now.Add(c.later)
		if left, ok := r.take(c.uid, now); ok != c.ok || fmt.Sprint(left) != c.want {
			t.Errorf("%s: told %v with %v, want %v with %s", c.name, ok, left, c.ok, c.want)
		}
	}
	r.take(3, now) // a new one is when the others are looked at
	if _, remembered := r.of[other]; remembered || len(r.of) != 2 {
		t.Errorf("%d uids are remembered, of which two were refused of late", len(r.of))
	}
}
