// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/conv/convtest"
)

// hotp is RFC 4226 with six digits.
func hotp(key []byte, counter uint64) string {
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, counter)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%1e6)
}

func TestRealModules(t *testing.T) {
	key := []byte("12345678901234567890")
	matrix := " required {matrix} passdb={dir}/passdb"
	answer := convtest.Answer
	for _, test := range []struct {
		name    string
		stack   []string
		files   map[string]string
		change  func(*worker.Start)
		replies []convtest.Reply
		said    []string // from authenticate on
	}{
		{
			name:  "pam_deny says no",
			stack: []string{"auth required {deny}"},
			said: []string{
				"entering authenticate 1", "entering end",
				"failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
		},
		{
			name:    "pam_matrix knows the password",
			stack:   []string{"auth" + matrix, "account" + matrix, "password" + matrix, "session" + matrix},
			files:   map[string]string{"passdb": "root:right:test\n"},
			replies: []convtest.Reply{answer("right")},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0",
				"entering account", "entering credentials", "entering session", "opened [CRED=/tmp/root HOMEDIR=/home/root]",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0",
			},
		},
		{
			name:    "pam_matrix talks, without a place for responses that it does not want",
			stack:   []string{"auth" + matrix + " verbose", "account" + matrix, "password" + matrix, "session" + matrix},
			files:   map[string]string{"passdb": "root:right:test\n"},
			replies: []convtest.Reply{answer("right")},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0", "info Authentication succeeded",
				"entering account", "entering credentials", "entering session", "opened [CRED=/tmp/root HOMEDIR=/home/root]",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0",
			},
		},
		{
			name:    "pam_matrix changes an expired password",
			stack:   []string{"auth" + matrix, "account required {probe} account:result=PAM_NEW_AUTHTOK_REQD", "password" + matrix},
			files:   map[string]string{"passdb": "root:old:test\n"},
			replies: []convtest.Reply{answer("old"), answer("old"), answer("new"), answer("new")},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0",
				"entering account", "entering change-token", "prompt 1 secret Old password: ", "taken 1",
				"prompt 2 secret New Password :", "taken 2", "prompt 3 secret Verify New Password :", "taken 3",
				"entering credentials", "entering session", "opened [CRED=/tmp/root]",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0",
			},
		},
		{
			name:  "pam_chatty says a lot",
			stack: []string{"auth required {chatty} error info num_lines=2"},
			// It has no pam_sm_setcred.
			change: options(func(o *worker.Options) { o.Phases = []worker.Phase{worker.Phase_PHASE_AUTHENTICATE} }),
			said: []string{
				"entering authenticate 1", "info Authentication succeeded", "info Authentication succeeded", "info Authentication succeeded",
				"error Authentication generated an error", "error Authentication generated an error", "error Authentication generated an error",
				"opened []", "entering end", "closed 0",
			},
		},
		{
			name:    "pam_exec is given the password",
			stack:   []string{"auth required {probe} [auth:ask=secret,Password: ]", "auth required {exec} expose_authtok stdout {dir}/got"},
			files:   map[string]string{"got": "#!/bin/sh\nread -r answer\necho \"got $answer\"\n"},
			replies: []convtest.Reply{answer("ignored"), answer("by pam_exec")},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0", "prompt 1 secret Password: ", "taken 1", "info got by pam_exec",
				"entering account", "entering credentials", "entering session", "opened []",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0",
			},
		},
		{
			name:    "pam_oath as a second factor",
			stack:   []string{"auth" + matrix, "auth required {oath} usersfile={dir}/users.oath window=5"},
			files:   map[string]string{"passdb": "root:right:test\n", "users.oath": "HOTP root - " + hex.EncodeToString(key) + "\n"},
			replies: []convtest.Reply{answer("right"), answer(hotp(key, 0))},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0",
				"prompt 1 secret One-time password (OATH) for `root': ", "taken 1",
				"entering account", "entering credentials", "entering session", "opened [CRED=/tmp/root]",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0",
			},
		},
		{
			name:    "pam_google_authenticator as a second factor",
			stack:   []string{"auth" + matrix, fmt.Sprintf("auth required {google_authenticator} secret={dir}/google user=%d no_strict_owner", os.Geteuid())},
			files:   map[string]string{"passdb": "root:right:test\n", "google": base32.StdEncoding.EncodeToString(key) + "\n\" HOTP_COUNTER 1\n"},
			replies: []convtest.Reply{answer("right"), answer(hotp(key, 1))},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0",
				"prompt 1 secret Verification code: ", "taken 1",
				"entering account", "entering credentials", "entering session", "opened [CRED=/tmp/root]",
				"entering close-session", "entering delete-credentials", "entering end", "closed 0",
			},
		},
		{
			name: "pam_faillock locks the account after a wrong answer",
			stack: []string{
				"auth requisite {faillock} preauth dir={dir}/faillock deny=1 even_deny_root nodelay",
				"auth [success=1 default=bad] {matrix} passdb={dir}/passdb",
				"auth [default=die] {faillock} authfail dir={dir}/faillock deny=1 even_deny_root nodelay",
				"auth required {permit}",
			},
			files:   map[string]string{"passdb": "root:right:test\n"},
			change:  options(func(o *worker.Options) { o.Attempts = 2 }),
			replies: []convtest.Reply{answer("wrong"), answer("right")},
			said: []string{
				"entering authenticate 1", "prompt 0 secret Password: ", "taken 0", "error Authentication failure",
				"entering authenticate 2", "info The account is locked due to 1 failed logins.", "info (10 minutes left to unlock)",
				"entering end", "failed AuthenticationFailed 7 pam_authenticate: Authentication failure (PAM_AUTH_ERR)",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stack(t, test.stack...)
			for name, text := range test.files {
				write(t, filepath.Join(dir, name), text)
				if strings.HasPrefix(text, "#!") {
					if err := os.Chmod(filepath.Join(dir, name), 0o700); err != nil {
						t.Fatal(err)
					}
				}
			}
			wantSaid(t, play(t, dir, test.change, test.replies...)[2:], test.said...)
		})
	}
}
