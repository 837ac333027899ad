// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const asks = "auth:ask=secret,Password: auth:export=GOT"

// TestAHelperThatAnswers is what the others differ from.
func TestAHelperThatAnswers(t *testing.T) {
	s := on(t, sanitized())
	s.fake("answers")
	s.stack("", asks)
	want(t, s.run("anna", "authenticate", "env=GOT", "children", "end", "descriptors"),
		"authenticate PAM_SUCCESS", "GOT secret", "children none", "end PAM_SUCCESS", "descriptors 0")
}

func want(t *testing.T, got string, lines ...string) {
	t.Helper()
	if want := strings.Join(lines, "\n") + "\n"; got != want {
		t.Errorf("the program says\n%s\nnot\n%s", got, want)
	}
}

const (
	refusal  = "authenticate Conversation error"
	complain = "log warning pam_probe(test:auth): pam_pamprompt: the broker cannot be asked, the program is left to itself: "
)

// TestABrokerThatIsAway leaves the program to itself: it does what it does without
// the module, and one line says so.
func TestABrokerThatIsAway(t *testing.T) {
	for behaviour, why := range map[string]string{
		"starts-never":     "HELPER was not started within 1 seconds",
		"says-nothing":     "HELPER does not reply",
		"away":             "there is no broker??", // a log has lines
		"another-kind":     "HELPER says what it should not",
		"asked-too-early":  "HELPER says what it should not",
		"short":            "HELPER says what it should not",
		"long":             "HELPER says what it should not",
		"a-descriptor":     "HELPER says what it should not",
		"many-descriptors": "HELPER says what it should not",
		"another-number":   "HELPER says what it should not",
		"leaves":           "HELPER has ended",
		"no-pipe":          "HELPER says what it should not",
		"two-pipes":        "HELPER says what it should not",
		"told-for-asked":   "HELPER says what it should not",
		"refuses":          "too many wait",
		"leaves-at-once":   "HELPER has ended",
		"loses":            "the broker went away while it asked, several times",
	} {
		t.Run(behaviour, func(t *testing.T) {
			b := sanitized
			if behaviour == "starts-never" || behaviour == "says-nothing" {
				b = hasty
			}
			s := on(t, b())
			s.fake(behaviour)
			s.tries = behaviour == "leaves" || behaviour == "leaves-at-once" || behaviour == "loses"
			away(t, s, why)
		})
	}
	t.Run("there is no helper", func(t *testing.T) {
		away(t, on(t, sanitized()), "HELPER cannot be started: No such file or directory")
	})
	t.Run("the helper fails", func(t *testing.T) {
		s := on(t, sanitized())
		s.helper("exit 3")
		away(t, s, "HELPER failed with status 3")
	})
	t.Run("the helper is killed", func(t *testing.T) {
		s := on(t, sanitized())
		s.helper("kill -SEGV $$")
		away(t, s, "HELPER failed with signal 11")
	})
	t.Run("the helper cannot be executed", func(t *testing.T) {
		s := on(t, sanitized())
		s.helper("")
		if err := os.Chmod(filepath.Join(s.b.dir, "helper"), 0o600); err != nil {
			t.Fatal(err)
		}
		away(t, s, "HELPER cannot be started: Permission denied")
	})
}

// away checks what a program does then, whatever its own conversation does, and that
// the module leaves nothing behind. The broker is tried once.
func away(t *testing.T, s *stage, why string) {
	t.Helper()
	why = complain + strings.ReplaceAll(why, "HELPER", filepath.Join(s.b.dir, "helper"))
	s.stack("", asks+" auth:ask=secret,Again: ")
	want(t, s.run("anna", "authenticate", "authenticate", "children", "end", "descriptors"),
		why, refusal, refusal, "children none", "end PAM_SUCCESS", "descriptors 0")
	s.stack("", asks)
	s.startedOnce(t)
	want(t, s.run("anna", "conv=null", "authenticate", "end"), why, refusal, "end PAM_SUCCESS")
	want(t, s.run("anna", "conv=nothing", "authenticate", "end", "descriptors"), // which is what pam_probe makes of it
		why, "authenticate System error", "end PAM_SUCCESS", "descriptors 0")
	want(t, s.run("anna", "conv=answer,own", "authenticate", "env=GOT"), "authenticate PAM_SUCCESS", "GOT own")
	s.stack("fallback", asks)
	want(t, s.run("anna", "conv=answer,own", "authenticate", "env=GOT", "children", "end", "descriptors"),
		why, "authenticate PAM_SUCCESS", "GOT own", "children none", "end PAM_SUCCESS", "descriptors 0")
	s.stack("quiet", asks)
	want(t, s.run("anna", "authenticate"), refusal)
}

// startedOnce checks that a broker that was away once was not tried again.
func (s *stage) startedOnce(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.stacks, "started"))
	if err == nil && len(text) != 1 && !s.tries {
		t.Errorf("the helper was started %d times", len(text))
	}
}

func TestAnswersThatAreNoneFitForTheQuestion(t *testing.T) {
	const unfit = "log err pam_probe(test:auth): pam_pamprompt: an answer was not fit for the question: it has more than 65536 bytes, or a NUL, or is no packet"
	for _, test := range []struct {
		behaviour, ask string
		want           []string
	}{
		{"cancels", "secret", []string{refusal}},
		{"half", "secret", []string{refusal}},
		{"nul", "secret", []string{unfit, refusal}},
		{"other", "secret", []string{unfit, refusal}},
		{"too-long", "secret", []string{unfit, refusal}},
		{"empty", "visible", []string{"authenticate PAM_SUCCESS", "GOT "}},
		{"longest", "visible", []string{"authenticate PAM_SUCCESS", "GOT " + strings.Repeat("x", 64<<10)}},
		{"packet", "binary", []string{"authenticate PAM_SUCCESS", "GOT 0000000802616263"}},
		{"short-packet", "binary", []string{unfit, refusal}},
		{"tiny-packet", "binary", []string{unfit, refusal}},
		{"two-bytes", "binary", []string{"authenticate PAM_SUCCESS", "GOT 0000000a026162630000"}},
		{"loose-bits", "binary", []string{unfit, refusal}},
		{"no-padding", "binary", []string{unfit, refusal}},
		{"no-base64", "binary", []string{unfit, refusal}},
		{"padded-early", "binary", []string{unfit, refusal}},
		{"longest", "binary", []string{unfit, refusal}},
		{"empty", "binary", []string{unfit, refusal}},
		{"answers", "choice", []string{"authenticate PAM_SUCCESS", "GOT secret"}},
	} {
		t.Run(test.behaviour+" "+test.ask, func(t *testing.T) {
			s := on(t, sanitized())
			s.fake(test.behaviour)
			question := test.ask + ",Password:"
			if test.ask == "binary" {
				question = "binary,hex:000000060261"
			}
			s.stack("timeout=1", "auth:ask="+question+" auth:export=GOT")
			words := []string{"authenticate"}
			if len(test.want) > 1 && strings.HasPrefix(test.want[1], "GOT") {
				words = append(words, "env=GOT")
			}
			want(t, s.run("anna", append(words, "children", "end", "descriptors")...),
				append(test.want, "children none", "end PAM_SUCCESS", "descriptors 0")...)
		})
	}
}
