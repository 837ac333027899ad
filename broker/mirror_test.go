// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

func TestVersionsOfSystemd(t *testing.T) {
	for text, want := range map[string]int{
		"252.38-1~deb12u1":        252,
		"257.9-0ubuntu2":          257,
		"262-1":                   262,
		"258":                     258,
		"v258":                    0,
		"":                        0,
		"99999999999999999999999": 0,
	} {
		if got := systemdVersion(text); got != want {
			t.Errorf("%q is version %d, not %d", text, got, want)
		}
	}
}

// A user's own agents are asked what root's sessions ask alone: their answers do
// not pass the gate, and whoever opened a session for somebody could have them
// checked as fast as PAM takes them.
func TestWhoseQuestionsGoToUsersOwnAgents(t *testing.T) {
	for _, c := range []struct {
		name     string
		owner    uint32
		files    bool // users have agents here
		resolved bool // it is known who the user is
		option   string
		style    worker.Style
		want     bool
	}{
		{"root's", 0, true, true, "", worker.Style_STYLE_SECRET, true},
		{"root's, to be seen", 0, true, true, api.AskPasswordYes, worker.Style_STYLE_VISIBLE, true},
		{"a user's", stranger, true, true, "", worker.Style_STYLE_SECRET, false},
		{"a user's who wants it", stranger, true, true, api.AskPasswordYes, worker.Style_STYLE_SECRET, false},
		{"of a user who is not known", 0, true, false, "", worker.Style_STYLE_SECRET, false},
		{"where users have no agents", 0, false, true, "", worker.Style_STYLE_SECRET, false},
		{"of who does not want it", 0, true, true, api.AskPasswordNo, worker.Style_STYLE_SECRET, false},
		{"of another style", 0, true, true, "", worker.Style_STYLE_BINARY, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _, idle := startOnBus(t)
			b.userFiles = c.files
			tr := newTransaction(b, &worker.Start{
				Session: 7, Service: "vault", User: "anna", Owner: &worker.Owner{Uid: c.owner},
				Options: &worker.Options{Attempts: 1, AskPassword: c.option},
			}, idle())
			tr.s.resolved, tr.s.uid = c.resolved, stranger
			b.do(func() {
				b.add(tr.s, nil)
				tr.ask(&worker.Prompt{Style: c.style, Text: []byte("?")}, 17)
				if tr.userFile != c.want {
					t.Errorf("the user's own agents are asked: %v", tr.userFile)
				}
			})
		})
	}
}
