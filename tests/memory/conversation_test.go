// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

// ask opens a conversation and puts a question; the test itself is the program that runs
// PAM, and is not looked at.
func (b *bench) ask() (prompt uint64, response *os.File) {
	b.t.Helper()
	v, err := b.client.OpenConversation(within(b.t), "ftp", "anna", api.ConversationOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	prompt, response, err = v.Ask(within(b.t), api.Question{Style: api.StyleSecret, Message: "Password: "})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = response.Close() })
	return prompt, response
}

// An answer goes through the broker by splice(2), also while its reader has not come.
func TestAnAnswerInAConversation(t *testing.T) {
	k := newSecret()
	b := start(t, nil)
	b.listen()
	prompt, response := b.ask()
	next[api.Prompt](b)
	if err := b.answer(prompt, k.text); err != nil {
		t.Fatal(err)
	}
	b.wantNowhere(k, nil)
	answer, err := api.ReadResponse(within(t), response)
	if err != nil || string(answer.Bytes()) != k.text {
		t.Fatalf("the program has another answer, %v", err)
	}
	answer.Wipe()
	b.wantNowhere(k, nil)
}

func TestAnAnswerOfASystemdAgentInAConversation(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat(replyPassword); err != nil {
		t.Skipf("%v: the Debian package systemd has it", err)
	}
	k := newSecret()
	dir := t.TempDir()
	b := start(t, nil, "--ask-password="+dir, "--user-ask-password=no")
	b.listen()
	_, response := b.ask()
	next[api.Prompt](b)
	cmd := exec.Command(replyPassword, "1", b.request(dir).Socket)
	cmd.Stdin = strings.NewReader(k.text + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	answer, err := api.ReadResponse(within(t), response)
	if err != nil || string(answer.Bytes()) != k.text {
		t.Fatalf("the program has another answer, %v", err)
	}
	answer.Wipe()
	b.wantNowhere(k, nil)
}
