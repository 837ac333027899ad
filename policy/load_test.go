// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	seeRule  = "[[rule]]\naction = \"see\"\nverdict = \"deny\"\n"
	openRule = "[[rule]]\naction = \"open\"\nservice = \"backup\"\nverdict = %q\n"
)

// directory has files of these texts.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadInOrder(t *testing.T) {
	allow, deny := fmt.Sprintf(openRule, "allow"), fmt.Sprintf(openRule, "deny")
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Verdict
		why   string // how the reason ends
	}{
		{"the first file first", map[string]string{"10-a.toml": allow, "9-b.toml": deny}, Allow, "/10-a.toml:1"},
		{"then the next", map[string]string{"a.toml": seeRule, "b.toml": "\n" + deny}, Deny, "/b.toml:2"},
		{"other files are none", map[string]string{"a.toml~": allow, ".a.toml": allow, "README": allow, "a.conf": allow}, Deny, "until one names the service"},
		{"no files", nil, Deny, "until one names the service"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Load(directory(t, c.files))
			if err != nil {
				t.Fatal(err)
			}
			if d := r.Decide(anna, Open, toAnna); d.Verdict != c.want || !strings.HasSuffix(d.Why, c.why) {
				t.Errorf("%s, %s", d.Verdict, d.Why)
			}
		})
	}
}

func TestLoadOfNothing(t *testing.T) {
	r, err := Load(filepath.Join(t.TempDir(), "missing"))
	if err != nil {
		t.Fatal(err)
	}
	if d := r.Decide(anna, Open, toAnna); d.Verdict != Deny {
		t.Errorf("%s", d.Verdict)
	}
}

func TestLoadRefuses(t *testing.T) {
	path := func(dir, name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string) error
		want string // after the directory
	}{
		{"a file with an error after a good one", func(_ *testing.T, dir string) error {
			return os.WriteFile(path(dir, "b.toml"), []byte("\n[[rule]]\nverdict = 1\n"), 0o600)
		}, "/b.toml:3: verdict is Integer"},
		{"a file that its group may write", func(_ *testing.T, dir string) error { return os.Chmod(path(dir, "a.toml"), 0o660) }, "/a.toml: may be written by its group or by others (mode 0660)"},
		{"a file that others may write", func(_ *testing.T, dir string) error { return os.Chmod(path(dir, "a.toml"), 0o602) }, "/a.toml: may be written"},
		{"a directory that others may write", func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o777) }, ": may be written"},
		{"a file of somebody else", func(t *testing.T, dir string) error {
			asRoot(t)
			return os.Chown(path(dir, "a.toml"), 1234, 0)
		}, "/a.toml: belongs to uid 1234, not to root"},
		{"a directory of somebody else", func(t *testing.T, dir string) error {
			asRoot(t)
			return os.Chown(dir, 1234, 0)
		}, ": belongs to uid 1234"},
		{"a symbolic link", func(_ *testing.T, dir string) error { return os.Symlink("a.toml", path(dir, "b.toml")) }, "/b.toml: is a symbolic link"},
		{"a FIFO, without waiting for a writer", func(_ *testing.T, dir string) error { return syscall.Mkfifo(path(dir, "b.toml"), 0o600) }, "/b.toml: is not a regular file"},
		{"a directory with the name of a file", func(_ *testing.T, dir string) error { return os.Mkdir(path(dir, "b.toml"), 0o700) }, "/b.toml: is not a regular file"},
		{"a file that is too long", func(_ *testing.T, dir string) error { return os.Truncate(path(dir, "a.toml"), 1<<40) }, "/a.toml:1: the file has more than 1048576 bytes"},
		{"too many rules in all files", func(_ *testing.T, dir string) error {
			return os.WriteFile(path(dir, "b.toml"), []byte(strings.Repeat(seeRule, maxRules)), 0o600)
		}, "/b.toml: with this file there are more than 4096 rules"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := directory(t, map[string]string{"a.toml": seeRule})
			if err := c.make(t, dir); err != nil {
				t.Fatal(err)
			}
			r, err := Load(dir)
			if err == nil || r != nil || !strings.HasPrefix(err.Error(), dir+c.want) {
				t.Errorf("%v and %v, want %s", r, err, c.want)
			}
		})
	}
	t.Run("a file for a directory", func(t *testing.T) {
		if r, err := Load(path(directory(t, map[string]string{"x": ""}), "x")); err == nil {
			t.Errorf("%v", r)
		}
	})
}

func asRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: run the tests as root")
	}
}

func TestGroupsAndWarnings(t *testing.T) {
	const text = "[[rule]]\naction = \"see\"\ncaller = [\"group:root\", %s\"unit:a.service\", \"unit:b.service\"]\nverdict = %q\n"
	const nobody = `"group:no such group", `
	dir := directory(t, map[string]string{"a.toml": fmt.Sprintf(text, "", "deny"), "b.toml": "\n" + fmt.Sprintf(text, nobody, "allow")})
	r, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := Caller{UID: 5, Groups: []uint32{0}, Unit: "x.service"}
	if d := r.Decide(c, See, roots); d.Why != "rule "+dir+"/a.toml:1" {
		t.Errorf("group root: %s", d.Why)
	}
	c.Groups = []uint32{7}
	if d := r.Decide(c, See, roots); d.Verdict != Polkit || !strings.HasPrefix(d.Why, "no rule") {
		t.Errorf("another group: %s", d.Why)
	}
	want := []string{
		dir + `/b.toml:2: /etc/group has no group "no such group"`,
		dir + "/a.toml:1: this denial by unit also denies every caller whose unit is unknown",
	}
	got := r.Warnings()
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("%q\nwant %q", got, want)
		}
	}
	if (*Rules)(nil).Warnings() != nil {
		t.Error("warnings of no rules")
	}
	// A denial for a group that is nowhere would deny nobody.
	denying := directory(t, map[string]string{"a.toml": fmt.Sprintf(text, nobody, "deny")})
	wrong := denying + `/a.toml:1: /etc/group has no group "no such group", so that this rule would deny nobody`
	if _, err := Load(denying); err == nil || !strings.HasPrefix(err.Error(), wrong) {
		t.Errorf("a denial for an unknown group: %v", err)
	}
}

func TestReadGroups(t *testing.T) {
	long := strings.Repeat("user,", 100_000)
	dir := directory(t, map[string]string{"group": "root:x:0:\n#c\nusers:x:100:" + long + "\nusers:x:7:\nbad:x:-1:\nnone:x:4294967295:\nlast:x:12"})
	got, err := readGroups(filepath.Join(dir, "group"))
	if err != nil || fmt.Sprint(got) != "map[last:12 root:0 users:100]" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readGroups(filepath.Join(dir, "missing")); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
