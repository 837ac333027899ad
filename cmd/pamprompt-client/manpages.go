// SPDX-License-Identifier: Apache-2.0

//go:build man

package main

// With the build tag "man" the program writes the manual page of each command into a
// folder and does nothing else: the commands say what they take in one place, for
// --help and for man(1). What is installed has no such code.

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func init() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pamprompt-client FOLDER (this one writes manual pages)")
		os.Exit(exitUsage)
	}
	root := (&tool{out: &output{w: io.Discard}, stderr: io.Discard}).root()
	dir := filepath.Join(os.Args[1], "man1")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = pages(root, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailure)
	}
	os.Exit(exitOK)
}

// pages writes the page of a command and of those below it.
func pages(cmd *cobra.Command, dir string) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), md2man.Render([]byte(page(cmd, name))), 0o644); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if err := pages(c, dir); err != nil {
			return err
		}
	}
	return nil
}

func page(cmd *cobra.Command, name string) string {
	var b strings.Builder
	date := time.Now()
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		date = time.Unix(seconds, 0)
	}
	fmt.Fprintf(&b, "%% %s 1 %q %q pamprompt\n\n", strings.ToUpper(name), date.UTC().Format(time.DateOnly), "pamprompt "+version)
	section := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, "# %s\n\n%s\n\n", title, text)
		}
	}
	cmd.DisableFlagsInUseLine = true
	use := strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())
	if cmd.HasSubCommands() {
		use = " COMMAND"
	}
	section("NAME", name+" - "+lower(cmd.Short))
	section("SYNOPSIS", "**"+cmd.CommandPath()+"** [OPTIONS]"+plain(strings.ReplaceAll(use, " [FLAGS]", "")))
	long, codes, _ := strings.Cut(cmd.Long, "\n\nExit codes:\n")
	section("DESCRIPTION", plain(long))
	section("OPTIONS", flagList(cmd.NonInheritedFlags())+flagList(cmd.InheritedFlags()))
	if cmd.HasSubCommands() {
		var list strings.Builder
		for _, c := range cmd.Commands() {
			fmt.Fprintf(&list, "**%s-%s**(1)\n: %s\n\n", name, c.Name(), plain(c.Short))
		}
		section("COMMANDS", list.String())
	}
	section("EXAMPLES", indented(cmd.Example))
	table, rest, _ := strings.Cut(codes, "\n\n")
	section("EXIT STATUS", strings.TrimSpace(indented(table)+"\n\n"+plain(rest)))
	also := "**pamprompt**(7)"
	if cmd.HasParent() {
		also = "**" + strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-") + "**(1), " + also
	}
	section("SEE ALSO", also)
	return b.String()
}

// flagList is a list of flags.
func flagList(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := "**--" + f.Name + "**"
		if f.Shorthand != "" {
			term = "**-" + f.Shorthand + "**, " + term
		}
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool":
			term += "[=*" + value + "*]"
		case value != "":
			term += "=*" + value + "*"
		}
		fmt.Fprintf(&b, "%s\n: %s\n\n", term, plain(strings.ReplaceAll(usage, "\n", " ")))
	})
	return b.String()
}

// indented is a block of code.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// plain is text in which nothing means something to Markdown.
func plain(text string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`, "[", `\[`, "]", `\]`, "`", "\\`").Replace(text)
}

// lower is a sentence as the line of a NAME section has it.
func lower(sentence string) string { return strings.ToLower(sentence[:1]) + sentence[1:] }
