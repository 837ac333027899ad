// SPDX-License-Identifier: Apache-2.0

// Command man makes manual pages of the documentation in docs, and of what the
// programs print with -help, so that each thing is said in one place:
//
//	go run ./scripts/man [-version V] FOLDER
//
// Pages that are nowhere else are the Markdown files of dist/man. Those of
// pamprompt-client and its commands are made of the commands themselves, by
// cmd/pamprompt-client with the build tag "man".
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// page is one of the manual.
type page struct {
	name    string
	section int
	is      string // behind the name, as apropos(1) shows it
	source  string // Markdown
	also    []string
}

var pages = []page{
	{"pamprompt", 7, "PAM sessions and their prompts over D-Bus", "dist/man/pamprompt.md", nil},
	{"pamprompt-broker", 8, "the D-Bus service of PAM sessions and prompts", "dist/man/pamprompt-broker.md", nil},
	{"pamprompt-worker", 8, "one PAM transaction, and the pool of them", "dist/man/pamprompt-worker.md", nil},
	{"pamprompt-broker.service", 8, "units of systemd that run pamprompt", "dist/man/units.md",
		[]string{"pamprompt-broker.socket", "pamprompt-worker.service", "pamprompt-sessions.service"}},
	{"pamprompt-linger@.service", 8, "open a user's session at boot, so that its home is unlocked", "docs/unlock-at-boot.md", nil},
	{"pam_pamprompt", 8, "PAM module that brings questions to pamprompt's agents", "docs/pam-module.md", []string{"pam_pamprompt.so"}},
	{"pamprompt-policy", 5, "who may do what to PAM sessions and prompts", "docs/policy.md", []string{"pamprompt-policy.d"}},
	{"org.pamprompt.Broker1", 5, "the D-Bus interface of pamprompt-broker", "docs/dbus.md", nil},
	{"pamprompt-ask-password", 7, "pamprompt and systemd's password agents", "docs/ask-password.md", nil},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("man: ")
	version := flag.String("version", "", "of pamprompt")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: go run ./scripts/man [-version V] FOLDER")
	}
	for _, p := range pages {
		if err := p.write(flag.Arg(0), *version); err != nil {
			log.Fatalf("%s: %v", p.source, err)
		}
	}
}

// file is where a page is below the folder of the manual.
func (p page) file(name string) string {
	return fmt.Sprintf("man%d/%s.%d", p.section, name, p.section)
}

func (p page) write(dir, version string) error {
	text, err := os.ReadFile(p.source)
	if err != nil {
		return err
	}
	markdown, err := p.markdown(text, version)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(p.file(p.name))), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, p.file(p.name)), md2man.Render(markdown), 0o644); err != nil {
		return err
	}
	for _, name := range p.also {
		if err := os.WriteFile(filepath.Join(dir, p.file(name)), []byte(".so "+p.file(p.name)+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var (
	licence = regexp.MustCompile(`(?s)\A<!--.*?-->\s*`)
	heading = regexp.MustCompile(`(?m)\A# (.*)\n`)
	link    = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]*)\)`)
	helpOf  = regexp.MustCompile(`(?m)^@HELP ([a-z-]+)@$`)
)

// markdown is a page of docs as go-md2man wants it.
func (p page) markdown(text []byte, version string) ([]byte, error) {
	text = licence.ReplaceAll(text, nil)
	if !heading.Match(text) {
		return nil, fmt.Errorf("it does not begin with a heading")
	}
	names := strings.Join(append([]string{p.name}, p.also...), ", ")
	title := fmt.Sprintf("%% %s %d %q %q pamprompt\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n\n",
		strings.ToUpper(p.name), p.section, date().Format(time.DateOnly), "pamprompt "+version, names, p.is)
	text = heading.ReplaceAll(text, nil)
	text = outsideCode(text, func(line string) string {
		switch {
		case strings.HasPrefix(line, "### "):
			return "## " + line[4:]
		case strings.HasPrefix(line, "## "):
			return "# " + line[3:]
		}
		return link.ReplaceAllStringFunc(line, linked)
	})
	text = lists(text)
	var failed error
	text = helpOf.ReplaceAllFunc(text, func(match []byte) []byte {
		out, err := help(string(helpOf.FindSubmatch(match)[1]))
		failed = err
		return out
	})
	return append([]byte(title), text...), failed
}

// linked is a link as a manual page can have one: to another page of it, else the text
// alone, but for what is on the Internet.
func linked(whole string) string {
	found := link.FindStringSubmatch(whole)
	text, to := found[1], found[2]
	if strings.Contains(to, "://") {
		return whole
	}
	file, _, _ := strings.Cut(to, "#")
	for _, p := range pages {
		if file != "" && filepath.Base(p.source) == filepath.Base(file) {
			return fmt.Sprintf("%s (**%s**(%d))", text, p.name, p.section)
		}
	}
	return text
}

// lists makes lists of tables: their rows are too long for the width of a terminal. What
// a row is about comes first, then its other cells, under their headings if there are
// several.
func lists(text []byte) []byte {
	var out, code = bytes.Buffer{}, false
	var head []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		row := strings.TrimSpace(line)
		if code || !strings.HasPrefix(row, "| ") {
			head = nil
			out.WriteString(line)
			continue
		}
		cells := strings.Split(strings.Trim(row, "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case head == nil:
			head = cells
		case strings.HasPrefix(cells[0], "---"):
		default:
			var rest []string
			for i, cell := range cells[1:] {
				if cell == "" {
					continue
				}
				if len(head) > 2 {
					cell = "*" + head[i+1] + "*: " + cell
				}
				rest = append(rest, cell)
			}
			fmt.Fprintf(&out, "%s\n: %s\n\n", cells[0], strings.Join(rest, "; "))
		}
	}
	return out.Bytes()
}

// outsideCode changes each line that is not in a block of code.
func outsideCode(text []byte, change func(string) string) []byte {
	var out bytes.Buffer
	code := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if !code && !strings.HasPrefix(line, "    ") {
			line = change(line)
		}
		out.WriteString(line)
	}
	return out.Bytes()
}

// help is what a program prints with -help, as a block of code.
func help(program string) ([]byte, error) {
	cmd := exec.Command("go", "run", "./cmd/"+program, "-help")
	out, err := cmd.CombinedOutput()
	if len(out) == 0 {
		return nil, fmt.Errorf("%v says nothing: %w", cmd, err)
	}
	var block bytes.Buffer
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "Usage of ") && !strings.HasPrefix(line, "exit status") {
			block.WriteString("    " + line)
		}
	}
	return block.Bytes(), nil
}

// date is that of the last change, where the environment says it
// (reproducible-builds.org), so that a package is the same tomorrow.
func date() time.Time {
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC()
	}
	return time.Now().UTC()
}
