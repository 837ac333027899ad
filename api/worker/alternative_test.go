// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"testing"
)

func endedOf(index uint32, closed *Closed, failed *Failed) *Ended {
	return &Ended{Index: index, Closed: closed, Failed: failed}
}

// What is said of how another alternative ended is bounded as its own words are, in
// either direction.
func TestCheckEnded(t *testing.T) {
	failed := &Failed{Error: "PAMFailed", PamResult: 6}
	good := endedOf(1, nil, failed)
	for _, test := range []struct {
		name string
		e    *Ended
		ok   bool
	}{
		{"failed", good, true},
		{"closed", endedOf(1, &Closed{Text: make([]byte, MaxString)}, nil), true},
		{"neither", endedOf(1, nil, nil), false},
		{"both", endedOf(1, &Closed{}, failed), false},
		{"too long a text", endedOf(1, &Closed{Text: make([]byte, MaxString+1)}, nil), false},
		{"failed with too long a text", endedOf(1, nil, &Failed{Error: "PAMFailed", Text: make([]byte, MaxString+1)}), false},
		{"failed without a name", endedOf(1, nil, &Failed{}), false},
		{"an index that no session has", endedOf(MaxAlternatives, nil, failed), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			want(t, test.ok, &ToWorker{Message: &ToWorker_Ended{Ended: test.e}})
			want(t, test.ok, &ToBroker{Message: helloOf(among(0, "login", "finger"), test.e)})
		})
	}
	for _, test := range []struct {
		name  string
		among func(*Start)
		known []*Ended
		ok    bool
	}{
		{"of two others", among(0, "login", "finger", "card"), []*Ended{good, endedOf(2, &Closed{}, nil)}, true},
		{"of itself", among(0, "login", "finger"), []*Ended{endedOf(0, nil, failed)}, false},
		{"of one that there is not", among(0, "login", "finger"), []*Ended{endedOf(2, nil, failed)}, false},
		{"twice", among(0, "login", "finger"), []*Ended{good, good}, false},
		{"of the only one", func(*Start) {}, []*Ended{good}, false},
	} {
		t.Run(fmt.Sprint("hello ", test.name), func(t *testing.T) {
			want(t, test.ok, &ToBroker{Message: helloOf(test.among, test.known...)})
		})
	}
}

func helloOf(among func(*Start), known ...*Ended) *ToBroker_Hello {
	return &ToBroker_Hello{&Hello{Version: 2, Session: &Session{Start: start(among), Phase: Phase_PHASE_ACCOUNT, Ended: known}}}
}
