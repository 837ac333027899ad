// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pamprompt/pamprompt/api/askpassword"
)

const (
	workersSocket = "/run/pamprompt/broker.sock"
	agentsDir     = askpassword.System
	// maxStack bounds a file of PAM that is read, in bytes, and maxIncludes how deep
	// one includes another.
	maxStack    = 1 << 20
	maxIncludes = 16
)

// shipped are the PAM services that the package brings, and who needs them.
var shipped = []struct{ name, of string }{{"pamprompt-run", "pamprompt-client run"}, {"pamprompt-linger", "pamprompt-linger@.service"}}

// stackDirs are where libpam looks for a service; of two the first counts.
var stackDirs = []string{"/etc/pam.d", "/usr/lib/pam.d"}

// moduleDirs are where distributions have PAM's modules.
var moduleDirs = []string{"/lib/security", "/lib64/security", "/lib/*/security", "/usr/lib/security", "/usr/lib64/security", "/usr/lib/*/security"}

// passwordAgents looks at the directory of systemd's agents.
func (e *examination) passwordAgents() {
	const check = "ask-password"
	info, err := os.Lstat(e.root + agentsDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.find(check, note, agentsDir+" is not there: consoles, the boot splash and other password agents of systemd are not asked",
			"`systemd-tmpfiles --create` makes it, where systemd is")
	case err != nil:
		e.find(check, bad, err.Error(), "")
	case !info.IsDir():
		e.find(check, bad, agentsDir+" is no directory", "remove it, and `systemd-tmpfiles --create`")
	case !trusted(info):
		e.find(check, bad, fmt.Sprintf("%s is not root's alone (%v): whoever writes to it can ask for passwords", agentsDir, info.Mode()),
			"`chown root:root "+agentsDir+"; chmod 755 "+agentsDir+"`")
	default:
		e.find(check, fine, agentsDir+" is there: password agents of systemd are asked too", "")
	}
}

// trusted is whether nobody but root may write to something.
func trusted(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && info.Mode().Perm()&0o022 == 0
}

// socket looks at where workers dial.
func (e *examination) socket() {
	const check = "workers"
	info, err := os.Lstat(e.root + workersSocket)
	switch {
	case errors.Is(err, fs.ErrPermission) && !e.admin:
		e.find(check, note, "only root sees the workers' socket", "run this as root to have it looked at")
	case errors.Is(err, fs.ErrNotExist) && os.Getenv("DBUS_SYSTEM_BUS_ADDRESS") != "":
		e.find(check, note, workersSocket+" is not there; a private bus has one elsewhere", "")
	case errors.Is(err, fs.ErrNotExist):
		e.find(check, bad, workersSocket+" is not there: no session can be opened", "`systemctl start pamprompt-broker.socket pamprompt-worker.service`")
	case err != nil:
		e.find(check, bad, err.Error(), "")
	case info.Mode().Type() != fs.ModeSocket:
		e.find(check, bad, workersSocket+" is no socket", "remove it, and `systemctl restart pamprompt-broker.socket`")
	case !trusted(info):
		e.find(check, bad, fmt.Sprintf("%s is not root's alone (%v): whoever dials there is taken for a worker", workersSocket, info.Mode()),
			"`systemctl restart pamprompt-broker.socket`")
	default:
		e.find(check, fine, "their socket "+workersSocket+" is there, for root alone", "")
	}
}

// services looks at the PAM services of the package, and for the modules that they name.
func (e *examination) services() {
	const check = "PAM services"
	for _, s := range shipped {
		lines, err := e.stack(s.name)
		if err != nil {
			e.find(check, bad, fmt.Sprintf("%s, which %s needs: %v", s.name, s.of, err), "install the package again, or write that file: pam.conf(5)")
			continue
		}
		missing := e.missing(lines)
		if len(missing) > 0 {
			e.find(check, bad, fmt.Sprintf("%s names modules that there are not: %s", s.name, strings.Join(missing, ", ")),
				"install their packages, or take the lines out: libpam fails each session of this service")
			continue
		}
		e.find(check, fine, s.name+", for "+s.of, "")
	}
}

// pamLine is a line of a stack: its type, without the dash, and its module. Of an
// include the module is "", and includes has the file's name.
type pamLine struct {
	file, kind, module, includes string
	optional                     bool // libpam does not mind when there is no such module
}

// stack reads a service with what it includes, as libpam does (pam.conf(5)).
func (e *examination) stack(name string) ([]pamLine, error) { return e.stackOf(name, nil) }

func (e *examination) stackOf(name string, above []string) ([]pamLine, error) {
	if slices.Contains(above, name) {
		return nil, fmt.Errorf("%s includes itself", name)
	}
	if len(above) > maxIncludes {
		return nil, fmt.Errorf("files include each other more than %d deep", maxIncludes)
	}
	text, file, err := e.readStack(name)
	if err != nil {
		return nil, err
	}
	var all []pamLine
	for _, line := range parseStack(file, text) {
		all = append(all, line)
		if line.includes != "" {
			more, err := e.stackOf(filepath.Base(line.includes), append(above, name))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			all = append(all, more...)
		}
	}
	return all, nil
}

func (e *examination) readStack(name string) (text []byte, file string, err error) {
	for _, dir := range stackDirs {
		file = filepath.Join(dir, name)
		info, err := os.Stat(e.root + file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxStack) {
			err = fmt.Errorf("%s is no file of at most %d bytes", file, maxStack)
		}
		if err != nil {
			return nil, file, err
		}
		text, err := os.ReadFile(e.root + file)
		return text, file, err
	}
	return nil, "", fmt.Errorf("%s is in none of %s", name, strings.Join(stackDirs, ", "))
}

// parseStack finds types, modules and includes; it does not say whether libpam likes
// the rest.
func parseStack(file string, text []byte) []pamLine {
	var all []pamLine
	text = bytes.ReplaceAll(text, []byte("\\\n"), []byte(" "))
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "@include"); ok {
			all = append(all, pamLine{file: file, includes: strings.TrimSpace(name)})
			continue
		}
		kind, rest := word(line)
		control, rest := word(rest)
		if strings.HasPrefix(control, "[") {
			_, rest, _ = strings.Cut(control+" "+rest, "]")
		}
		module, _ := word(rest)
		if module == "" {
			continue
		}
		one := pamLine{file: file, module: module}
		one.kind, one.optional = strings.CutPrefix(kind, "-")
		if control == "include" || control == "substack" {
			one.module, one.includes = "", module
		}
		all = append(all, one)
	}
	return all
}

// word cuts the first word off.
func word(text string) (first, rest string) {
	text = strings.TrimSpace(text)
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// missing are the modules of a stack that are nowhere.
func (e *examination) missing(lines []pamLine) []string {
	var names []string
	for _, line := range lines {
		if line.module != "" && !line.optional && !e.hasModule(line.module) && !slices.Contains(names, line.module) {
			names = append(names, line.module)
		}
	}
	return names
}

func (e *examination) hasModule(name string) bool {
	dirs := moduleDirs
	if filepath.IsAbs(name) {
		dirs, name = []string{filepath.Dir(name)}, filepath.Base(name)
	}
	for _, dir := range dirs {
		found, _ := filepath.Glob(e.root + dir + "/" + name)
		if len(found) > 0 {
			return true
		}
	}
	return false
}

// module looks at the services that use pam_pamprompt.so: the line must come before
// those of the modules that ask.
func (e *examination) module() {
	const check, name = "pam_pamprompt", "pam_pamprompt.so"
	there, used := e.hasModule(name), 0
	for _, dir := range stackDirs {
		entries, _ := os.ReadDir(e.root + dir)
		for _, entry := range entries {
			text, file, err := e.readStack(entry.Name())
			if err != nil || filepath.Dir(file) != dir {
				continue
			}
			lines := parseStack(file, text)
			i := slices.IndexFunc(lines, func(l pamLine) bool { return filepath.Base(l.module) == name })
			if i < 0 {
				continue
			}
			used++
			before := slices.IndexFunc(lines[:i], func(l pamLine) bool { return l.includes != "" || l.kind == lines[i].kind })
			switch {
			case !there:
				e.find(check, bad, fmt.Sprintf("%s names it, and it is in no folder of PAM's modules", file), "install the package, or take the line out")
			case before >= 0:
				e.find(check, note, fmt.Sprintf("in %s something stands before it: what those modules ask does not reach pamprompt", file),
					"put its line first: pam_pamprompt(8)")
			default:
				e.find(check, fine, "used by "+file, "")
			}
		}
	}
	if used == 0 && there {
		e.find(check, fine, "installed; no service uses it", "")
	}
}
