// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGroupsAreThoseOfTheUser, as id(1) has them, also those of one who is in
// more groups than there is room for at first; and of this thread alone.
func TestGroupsAreThoseOfTheUser(t *testing.T) {
	newHome(t)
	dir := t.TempDir()
	var group strings.Builder
	for i := range 200 {
		fmt.Fprintf(&group, "g%d:x:%d:nobody\n", i, 2000+i)
	}
	write(t, filepath.Join(dir, "group"), group.String())
	if err := os.Chmod(filepath.Join(dir, "group"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(filepath.Join(dir, "group"), "/etc/group", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"nobody", "daemon"} {
		out, err := exec.Command("id", "-G", user).Output()
		if err != nil {
			t.Fatal(err)
		}
		account, err := findUser(user)
		if err != nil {
			t.Fatal(err)
		}
		if err := initGroups(user, account.gid); err != nil {
			t.Fatal(err)
		}
		groups, err := unix.Getgroups()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(string(out))
		got := strings.Fields(strings.Trim(fmt.Sprint(groups), "[]"))
		if user == "nobody" && len(want) < 200 {
			t.Fatalf("the test's own /etc/group does not count: %v", want)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s is in %v, not %v", user, got, want)
		}
	}
	others := make(chan []int)
	go func() {
		runtime.LockOSThread()
		groups, _ := unix.Getgroups()
		others <- groups
	}()
	if groups := <-others; len(groups) > 100 {
		t.Errorf("another thread has the groups %v", groups)
	}
}
