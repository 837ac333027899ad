// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pamprompt/pamprompt/tests/system"
)

// What the users of the test's own /etc have as password, and its crypt(5)
// hash, with few rounds.
const (
	password = "correct horse"
	hash     = "$6$rounds=1000$pamprompt$/Q0rwS4607rjCL4..KfBqWCe8nYNYXNaQ7qJEDnofQNDHo/P2RGVPw14paBxfbCrm8.MPO0D2xxMCYWBADP.f."

	oddPassword = "correct hörse " // with a space at the end
	oddHash     = "$6$rounds=1000$pamprompt$6p01fK9IU6hGDaSQnK/J56KbOzz.UzZgmDKu/aJPkOdXLMezaxjU8I2whHHFvduKjTAVjAiIoEyygo71gI5IG0"
)

// today is the current day as shadow(5) counts.
func today() int64 { return time.Now().Unix() / 86400 }

// shadow has the entry of each user: the hash and the fields about age. A user
// without an entry has none in the shadow file.
func shadow() map[string]string {
	const ageless = ":19000:0:99999:7:::"
	return map[string]string{
		"anna":      hash + ageless,
		"odd":       oddHash + ageless,
		"locked":    "!" + hash + ageless,
		"none":      "*" + ageless,
		"gone":      hash + ":19000:0:99999:7::1:",
		"idle":      hash + ":19000:0:30:7:5::",
		"forced":    hash + ":0:0:99999:7:::",
		"old":       hash + ":19000:0:30:7:::",
		"warned":    hash + fmt.Sprintf(":%d:0:30:7:::", today()-25),
		"forgotten": "",
	}
}

// unixStack is pam_unix in every group, with pam_pwquality before it where a
// password is set. Without nodelay a wrong password costs two seconds.
const unixStack = `auth     required  pam_unix.so nodelay
account  required  pam_unix.so
password requisite pam_pwquality.so retry=2
password required  pam_unix.so use_authtok sha512 rounds=1000 nodelay
session  required  pam_unix.so
`

// namespace starts a system that sees an /etc of its own with the users of
// shadow, and in its pam.d the given stacks and "unix". It returns where that
// /etc is, and checks in the end that the machine's own has not changed.
func namespace(t *testing.T, stacks map[string]string, more ...system.Mount) (s *system.OnBus, etc string) {
	t.Helper()
	needRoot(t)
	before := accountFiles(t, "/etc")
	t.Cleanup(func() { // after the system has ended
		if accountFiles(t, "/etc") != before {
			t.Error("what the machine's own /etc says of users and PAM has changed")
		}
	})
	etc = t.TempDir()
	if out, err := exec.Command("cp", "-a", "/etc/.", etc).CombinedOutput(); err != nil {
		t.Fatalf("copy /etc: %v\n%s", err, out)
	}
	writeUsers(t, etc)
	write(t, filepath.Join(etc, "pam.d", "unix"), unixStack)
	for service, stack := range stacks {
		write(t, filepath.Join(etc, "pam.d", service), stack)
	}
	// The dictionary is in a package that pam_pwquality only recommends.
	write(t, filepath.Join(etc, "security", "pwquality.conf"), "dictcheck = 0\nminlen = 10\n")
	s = system.StartInNamespace(t, append(more, system.Mount{From: etc, To: "/etc"}), system.Options{})
	if strings.Contains(read(t, "/proc/self/mountinfo"), etc) {
		t.Fatal("the mounts of the namespace are those of the whole machine")
	}
	return s, etc
}

func writeUsers(t *testing.T, etc string) {
	t.Helper()
	var users, passwords strings.Builder
	users.WriteString("root:x:0:0:root:/root:/bin/sh\n")
	passwords.WriteString("root:*:19000:0:99999:7:::\n")
	uid := 60001
	for user, entry := range shadow() {
		fmt.Fprintf(&users, "%s:x:%d:60000::/nonexistent:/bin/sh\n", user, uid)
		if entry != "" {
			passwords.WriteString(user + ":" + entry + "\n")
		}
		uid++
	}
	write(t, filepath.Join(etc, "passwd"), users.String())
	write(t, filepath.Join(etc, "shadow"), passwords.String())
	write(t, filepath.Join(etc, "group"), "root:x:0:\nshadow:x:42:\nusers:x:60000:\n")
	write(t, filepath.Join(etc, "nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\n")
}

// entry is the line of a user in a shadow file.
func entry(t *testing.T, etc, user string) string {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join(etc, "shadow"))) {
		if strings.HasPrefix(line, user+":") {
			return line
		}
	}
	t.Fatalf("%s has no line in the shadow file", user)
	return ""
}

// accountFiles is a checksum of all in an /etc that modules may write, with the
// times of the last change. Other files there have other owners, who may change
// them meanwhile.
func accountFiles(t *testing.T, etc string) string {
	t.Helper()
	sum := sha256.New()
	for _, pattern := range []string{"*passwd*", "*shadow*", "group*", "pam.d", "pam.conf", "security", "environment"} {
		roots, err := filepath.Glob(filepath.Join(etc, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range roots {
			if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return sumFile(sum, path, d)
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func sumFile(sum io.Writer, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(sum, path, info.Mode(), info.ModTime().UnixNano())
	if !info.Mode().IsRegular() {
		return nil
	}
	content, err := os.ReadFile(path)
	_, _ = sum.Write(content)
	return err
}
