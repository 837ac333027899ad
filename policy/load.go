// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Dir is where the rule files are.
const Dir = "/etc/pamprompt/policy.d"

// groupFile has the numbers of groups. Groups of other sources are to be named
// by their numbers: the broker has no NSS.
const groupFile = "/etc/group"

// Load reads the rule files of a directory: those that end in .toml and do not
// start with a dot, in the order of their names, byte by byte. No directory is
// no rules. Any other failure is an error that names the file, and no rules at
// all: half of them could allow what the other half denies.
//
// The directory and the files must belong to root, or to the uid that the
// process runs as, and nobody else may be able to write to them.
func Load(dir string) (*Rules, error) {
	names, err := ruleFiles(dir)
	if err != nil {
		return nil, err
	}
	all := &Rules{}
	for _, name := range names {
		text, err := readRegular(name)
		if err != nil {
			return nil, err
		}
		r, err := Parse(name, text)
		if err != nil {
			return nil, err
		}
		if all.rules = append(all.rules, r.rules...); len(all.rules) > maxRules {
			return nil, fmt.Errorf("%s: with this file there are more than %d rules", name, maxRules)
		}
	}
	if err := all.resolveGroups(); err != nil {
		return nil, err
	}
	all.warnOfUnits()
	return all, nil
}

// ruleFiles returns the paths of the rule files, in their order.
func ruleFiles(dir string) ([]string, error) {
	d, err := open(dir, syscall.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	if err := trusted(d); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir) // sorts by name
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// open neither waits for the other end of a FIFO nor moves a device.
func open(name string, flags int) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOCTTY|flags, 0)
}

// trusted says whether only root and we can have written to a file or into a
// directory.
func trusted(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && int64(owner) != int64(os.Geteuid()):
		return fmt.Errorf("%s: belongs to uid %d, not to root", f.Name(), owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s: may be written by its group or by others (mode %04o)", f.Name(), info.Mode().Perm())
	}
	return nil
}

// readRegular reads a rule file, up to one byte more than it may have.
func readRegular(name string) ([]byte, error) {
	f, err := open(name, syscall.O_NOFOLLOW)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: is a symbolic link, not a regular file", name)
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", name)
	}
	if err := trusted(f); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return text, nil
}

// resolveGroups gives groups their numbers. One that is unknown matches nobody,
// which a rule that denies must not do: it would let through whom it is for.
func (r *Rules) resolveGroups() error {
	var numbers map[string]uint32
	for i := range r.rules {
		rule := &r.rules[i]
		for j := range rule.callers {
			m := &rule.callers[j]
			if m.group == "" {
				continue
			}
			if numbers == nil {
				var err error
				if numbers, err = readGroups(groupFile); err != nil {
					return err
				}
			}
			if id, known := numbers[m.group]; known {
				m.id, m.group = id, ""
			} else if rule.verdict == Deny {
				return fmt.Errorf("%s:%d: %s has no group %q, so that this rule would deny nobody: use its number if it is somewhere else",
					rule.file, rule.line, groupFile, m.group)
			} else {
				r.warnings = append(r.warnings, fmt.Sprintf("%s:%d: %s has no group %q, so that nobody is in it: use its number if it is somewhere else",
					rule.file, rule.line, groupFile, m.group))
			}
		}
	}
	return nil
}

// readGroups reads group(5). Of two lines with one name the first counts, as it
// does for glibc. No file is no groups.
func readGroups(name string) (map[string]uint32, error) {
	numbers := map[string]uint32{}
	f, err := open(name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return numbers, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewReader(f) // a line of group(5) has no bound
	for {
		line, err := lines.ReadString('\n')
		if fields := strings.Split(line, ":"); len(fields) >= 3 {
			id, wrong := ParseID(fields[2])
			if _, twice := numbers[fields[0]]; wrong == nil && !twice {
				numbers[fields[0]] = id
			}
		}
		if errors.Is(err, io.EOF) {
			return numbers, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
}

// warnOfUnits tells of denials that hit more than they name.
func (r *Rules) warnOfUnits() {
	for i := range r.rules {
		rule := &r.rules[i]
		for j := range rule.callers {
			if rule.verdict == Deny && rule.callers[j].kind == "unit" {
				r.warnings = append(r.warnings, fmt.Sprintf("%s:%d: this denial by unit also denies every caller whose unit is unknown, "+
					"which is each of them on a bus that does not pin processes, as that of dbus-daemon 1.14", rule.file, rule.line))
				break
			}
		}
	}
}
