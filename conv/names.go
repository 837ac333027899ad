// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// systemDirs is where pam_start(3) looks for a service of the system.
var systemDirs = []string{"/etc/pam.d", "/usr/lib/pam.d"}

const systemConf = "/etc/pam.conf"

// findService makes sure that the service is one: for a name that it does not
// find, libpam takes the stack "other", which says nothing about the name.
func findService(dir, service string) error {
	if err := checkService(service); err != nil {
		return err
	}
	dirs := systemDirs
	if dir != "" {
		dirs = []string{dir}
	}
	for _, d := range dirs {
		if info, err := os.Stat(filepath.Join(d, service)); err == nil && info.Mode().IsRegular() {
			return nil
		}
	}
	if dir == "" && !slices.ContainsFunc(systemDirs, isDir) && inConf(systemConf, service) {
		return nil
	}
	return fmt.Errorf("there is no PAM service %q: put a file of that name into %s", service, dirs[0])
}

// isDir tells whether there is such a directory. Where libpam has one of its
// own, it does not look at pam.conf.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// serviceName has no slash: libpam drops what is before the last one. It has no
// capital letters, which libpam takes for small ones, and of all others only
// those that are the same in every locale. Hidden files are no services.
var serviceName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.@+:-]*$`)

// checkService refuses the names that libpam would silently read as another
// one, or as a file elsewhere: what policy allowed and what runs have to be the
// same.
func checkService(service string) error {
	if serviceName.MatchString(service) {
		return nil
	}
	if err := printable("the name of a PAM service", service); err != nil {
		return err
	}
	if lower := strings.ToLower(service); lower != service && serviceName.MatchString(lower) {
		return fmt.Errorf("the name of the PAM service %q has capital letters, which libpam takes for small ones: is it %q?", service, lower)
	}
	return fmt.Errorf("%q is not the name of a PAM service, which is that of a file in /etc/pam.d", service)
}

// inConf tells whether pam.conf(5) has a line for the service.
func inConf(path, service string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return mentions(f, service)
}

func mentions(conf io.Reader, service string) bool {
	lines := bufio.NewScanner(conf)
	for lines.Scan() {
		if first := strings.Fields(lines.Text()); len(first) > 0 && strings.EqualFold(first[0], service) {
			return true
		}
	}
	return false
}

// checkUser refuses what is no user's name anywhere but is a path or a line of
// its own to the modules that make file names and log lines of it.
func checkUser(name string) error {
	if strings.ContainsRune(name, '/') || name == "." || name == ".." {
		return fmt.Errorf("%q is not the name of a user", name)
	}
	return printable("the name of a user", name)
}

func printable(what, name string) error {
	for _, c := range []byte(name) {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("%s has a control character: %q", what, name)
		}
	}
	return nil
}

var localeName = regexp.MustCompile(`^[A-Za-z0-9_.@-]+$`)

// useLocale sets the language that modules and libpam speak.
func useLocale(name string) error {
	if name == "" {
		return nil
	}
	// glibc reads a name with a slash as a path to files it then trusts.
	if !localeName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a locale, such as de_DE.UTF-8", name)
	}
	if !setLocale(name) {
		return fmt.Errorf("this system has no locale %q: `locale -a` lists those it has", name)
	}
	return nil
}
