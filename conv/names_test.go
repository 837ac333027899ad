// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestFindService(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "here"), "")
	if err := findService(dir, "here"); err != nil {
		t.Error(err)
	}
	if err := findService(dir, "elsewhere"); err == nil || !strings.Contains(err.Error(), "put a file of that name into "+dir) {
		t.Errorf("a service that is not there: %v", err)
	}
	if err := findService(filepath.Dir(dir), filepath.Base(dir)); err == nil {
		t.Error("a directory is a service")
	}
	// Every Debian has it, and no test touches it.
	if err := findService("", "login"); err != nil {
		t.Error(err)
	}
	if err := findService("", "there-is-none"); err == nil || !strings.Contains(err.Error(), "into /etc/pam.d") {
		t.Errorf("a service that the system does not have: %v", err)
	}
}

func TestMentions(t *testing.T) {
	conf := "# ftpd is not here\n  login\tauth required pam_unix.so\n\nSu auth required pam_deny.so\n"
	for service, want := range map[string]bool{"login": true, "su": true, "ftpd": false, "auth": false, "": false} {
		if got := mentions(strings.NewReader(conf), service); got != want {
			t.Errorf("that pam.conf mentions %q is %v", service, got)
		}
	}
}

func TestCheckUser(t *testing.T) {
	for name, ok := range map[string]bool{
		"root": true, "anna": true, `DOMAIN\anna`: true, "anna@example.org": true, "änna": true, "ann\xff": true,
		"../root": false, "a/b": false, ".": false, "..": false, "a\nb": false, "a\x7fb": false, "a\x1bb": false,
	} {
		if err := checkUser(name); (err == nil) != ok {
			t.Errorf("the user %q: %v", name, err)
		}
	}
}

func TestFindUser(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	account, err := findUser(self.Username)
	if err != nil || account == nil || strconv.Itoa(int(account.uid)) != self.Uid || strconv.Itoa(int(account.gid)) != self.Gid {
		t.Errorf("NSS says of the user of this test: %v (%v)", account, err)
	}
	if account, err := findUser("nobody-has-this-name"); account != nil || err != nil {
		t.Errorf("NSS says of a user who does not exist: %v (%v)", account, err)
	}
}
