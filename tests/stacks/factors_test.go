// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/modules"
)

const (
	key       = "3132333435363738393031323334353637383930" // of RFC 4226, in hexadecimal
	base32Key = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"         // the same

	asksCode   = "secret One-time password (OATH) for `anna': "
	asksGoogle = "secret Verification code: "
)

// code has oathtool compute a one-time code.
func code(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("oathtool", append(args, key)...).Output()
	if err != nil {
		t.Fatalf("oathtool: %v (the Debian package oathtool has it)", err)
	}
	return strings.TrimSpace(string(out))
}

// factor is a second factor: what it asks and how to answer that.
type factor struct {
	name   string
	line   string // of the stack; %s is the directory of its secrets
	secret string // its file
	asks   string
	right  []string // arguments of oathtool
}

func factors(t *testing.T) []factor {
	oath := "auth required " + modules.System(t, "pam_oath") + " usersfile=%s/secret window=5 digits=6\n"
	google := "auth required " + modules.System(t, "pam_google_authenticator") + " secret=%s/secret user=root\n"
	return []factor{
		{"pam_oath that counts", oath, "HOTP anna - " + key + "\n", asksCode, []string{"--hotp", "-c", "0"}},
		{"pam_oath by the clock", oath, "HOTP/T30 anna - " + key + "\n", asksCode, []string{"--totp"}},
		{"pam_google_authenticator that counts", google, base32Key + "\n\" HOTP_COUNTER 1\n", asksGoogle, []string{"--hotp", "-c", "3"}}, // a wrong code counts too
		{"pam_google_authenticator by the clock", google, base32Key + "\n\" TOTP_AUTH\n", asksGoogle, []string{"--totp"}},
	}
}

// unixThen is a stack with lines of auth after pam_unix.
func unixThen(lines ...string) string {
	return "auth requisite pam_unix.so nodelay\n" + strings.Join(lines, "") +
		"account required pam_unix.so\npassword required pam_unix.so\nsession required pam_unix.so\n"
}

func TestSecondFactors(t *testing.T) {
	stacks, dir := map[string]string{}, t.TempDir()
	for i, f := range factors(t) {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(own, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, "secret"), []byte(f.secret), 0o600); err != nil {
			t.Fatal(err)
		}
		stacks[fmt.Sprint("factor", i)] = unixThen(fmt.Sprintf(f.line, own))
	}
	s, _ := namespace(t, stacks)
	first := question(asksPassword, password)
	for i, f := range factors(t) {
		service := fmt.Sprint("factor", i)
		t.Run(f.name+": a wrong code", func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run(service, "anna", api.Options{}, first, question(f.asks, "000000")), wrong)
		})
		t.Run(f.name+": a wrong password, and no code is asked for", func(t *testing.T) {
			a := newAgent(t, s.System)
			a.want(a.run(service, "anna", api.Options{}, question(asksPassword, "wrong")), wrong)
		})
		t.Run(f.name+": a wrong code, and then a right one", func(t *testing.T) {
			a, right := newAgent(t, s.System), code(t, f.right...)
			e := a.run(service, "anna", api.Options{Attempts: 2}, first, question(f.asks, "000000"),
				turn{asksPassword, password, []string{"error Authentication failure"}}, question(f.asks, right))
			if got := e.prompts[3]; got.Index != 3 || got.Attempt != 2 {
				t.Errorf("the last question has index %d and attempt %d", got.Index, got.Attempt)
			}
			a.want(e, result{})
			a.want(a.run(service, "anna", api.Options{}, first, question(f.asks, right)), replay(f))
		})
	}
}

// replay is what becomes of a code that was used before.
func replay(f factor) result {
	if strings.Contains(f.secret, "TOTP_AUTH") {
		return result{} // only with DISALLOW_REUSE
	}
	return wrong
}

func TestThreeFactorsInOneStack(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "users.oath"), "HOTP anna - "+key+"\n")
	write(t, filepath.Join(dir, "google"), base32Key+"\n\" HOTP_COUNTER 1\n")
	s, _ := namespace(t, map[string]string{"three": unixThen(
		"auth requisite "+modules.System(t, "pam_oath")+" usersfile="+dir+"/users.oath window=5 digits=6\n",
		"auth requisite "+modules.System(t, "pam_google_authenticator")+" secret="+dir+"/google user=root\n")})
	a := newAgent(t, s.System)
	e := a.run("three", "anna", api.Options{}, question(asksPassword, password),
		question(asksCode, code(t, "--hotp", "-c", "0")), question(asksGoogle, code(t, "--hotp", "-c", "1")))
	for i, p := range e.prompts {
		if p.Index != uint32(i) || p.Attempt != 1 {
			t.Errorf("question %d has index %d and attempt %d", i, p.Index, p.Attempt)
		}
	}
	a.want(e, result{})
}
