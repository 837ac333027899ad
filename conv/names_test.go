// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"os"
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

func TestCheckService(t *testing.T) {
	for name, ok := range map[string]bool{
		"login": true, "systemd-user": true, "polkit-1": true, "runuser-l": true, "gdm_password": true, "a": true, "vsftpd.virtual": true, "user@host": true,
		"": false, ".": false, "..": false, "/etc/passwd": false, "../passwd": false, "a/b": false, "a/": false, "./login": false,
		".login": false, "..login": false, "-login": false, "login\x00": false, "lo\x00gin": false, "login\n": false, "lo gin": false, "login\x7f": false,
		"Login": false, "LOGIN": false, "l\xf6gin": false, "lögin": false, "\u212aogin": false, "ſu": false, "login~": false, "%s": false, "login*": false,
	} {
		if err := checkService(name); (err == nil) != ok {
			t.Errorf("the service %q: %v", name, err)
		}
	}
	if err := checkService("Login"); err == nil || !strings.Contains(err.Error(), `is it "login"?`) {
		t.Errorf("a service in capital letters: %v", err)
	}
}

// TestServicesThatLeaveTheDirectory, by files that are there.
func TestServicesThatLeaveTheDirectory(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "pam.d")
	for _, path := range []string{dir, filepath.Join(dir, "sub")} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"outside", "pam.d/here", "pam.d/.hidden", "pam.d/sub/below", "pam.d/" + strings.Repeat("x", 255)} {
		write(t, filepath.Join(top, name), "")
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	// A link is the administrator's way to say where the stack is.
	if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"here": true, "link": true, strings.Repeat("x", 255): true,
		"../outside": false, filepath.Join(top, "outside"): false, "sub/below": false, "sub/../here": false, ".hidden": false,
		"sub": false, "dangling": false, "here\x00": false, strings.Repeat("x", 256): false, strings.Repeat("x", 5000): false, "": false,
	} {
		if err := findService(dir, name); (err == nil) != ok {
			t.Errorf("the service %.30q: %v", name, err)
		}
	}
}

// TestPamConf is only for systems without a directory: elsewhere libpam would
// take the stack "other" for a service that only pam.conf has.
func TestPamConf(t *testing.T) {
	e := newEtc(t)
	write(t, filepath.Join(e.dir, "pam.conf"), "only-there auth required pam_permit.so\n")
	if _, err := os.Stat(systemConf); err != nil {
		t.Skipf("there is no %s to mount over", systemConf)
	}
	e.mount(filepath.Join(e.dir, "pam.conf"), "pam.conf")
	if err := findService("", "only-there"); err == nil {
		t.Error("a service that libpam would not find was found")
	}
	saved := systemDirs
	defer func() { systemDirs = saved }()
	systemDirs = []string{"/nonexistent/pam.d"}
	if err := findService("", "only-there"); err != nil {
		t.Error(err)
	}
}

// TestIDsThatAreNone are those that the kernel reads as "leave it as it is".
func TestIDsThatAreNone(t *testing.T) {
	newEtc(t).write("passwd", "uid:x:4294967295:60000::/:/bin/sh\ngid:x:60001:4294967295::/:/bin/sh\nlast:x:4294967294:4294967294::/:/bin/sh\n")
	for _, name := range []string{"uid", "gid"} {
		if account, err := findUser(name); err == nil {
			t.Errorf("a user whose %s is none is %v", name, account)
		}
	}
	if account, err := findUser("last"); err != nil || account.uid != 1<<32-2 || account.gid != 1<<32-2 {
		t.Errorf("the last user is %v (%v)", account, err)
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
