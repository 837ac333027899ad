// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
)

// output is standard output.
type output struct {
	w        io.Writer
	json     bool
	pretty   bool // JSON on several lines, for people
	noLegend bool // columns without a header
}

// jsonFlag is --json, which has the words of systemd's tools.
type jsonFlag struct{ *output }

func (f jsonFlag) String() string {
	switch {
	case f.output == nil || !f.json:
		return "off"
	case f.pretty:
		return "pretty"
	}
	return "short"
}

// Set takes a word; the flag alone is "short".
func (f jsonFlag) Set(word string) error {
	switch word {
	case "short", "pretty", "off":
		f.json, f.pretty = word != "off", word == "pretty"
		return nil
	}
	return fmt.Errorf("%q is none of short, pretty and off", word)
}

// Type is what --help calls the word.
func (jsonFlag) Type() string { return "form" }

// legendFlag gives a command that writes columns the flag that leaves out their header.
func (t *tool) legendFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&t.out.noLegend, "no-legend", false, "no header above the columns")
}

// line writes v as one JSON object, or human as one line.
func (o *output) line(v any, human string) error {
	if o.json {
		text, err := jsonLine(v)
		if err != nil {
			return err
		}
		if human = text; o.pretty {
			var lines bytes.Buffer
			if err := json.Indent(&lines, []byte(text), "", "  "); err != nil {
				return err
			}
			human = lines.String()
		}
	}
	_, err := fmt.Fprintln(o.w, human)
	return err
}

// table writes rows in aligned columns under a header, or each of values as
// one JSON object.
func table[T any](o *output, header string, values []T, row func(T) []string) error {
	if o.json {
		for _, v := range values {
			if err := o.line(v, ""); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	if !o.noLegend {
		rows = append(rows, strings.Fields(header))
	}
	for _, v := range values {
		cells := row(v)
		for i := range cells {
			cells[i] = cleanLine(cells[i])
		}
		rows = append(rows, cells)
	}
	_, err := io.WriteString(o.w, columns(rows))
	return err
}

// columns aligns rows, by how wide a terminal shows them: two spaces between columns,
// none at the end of a line.
func columns(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(runewidth.FillRight(cell, widths[i]) + "  ")
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// event is a JSON object with the name of an event before its fields.
type event struct {
	name   string
	fields any
}

// MarshalJSON puts the name in front.
func (e event) MarshalJSON() ([]byte, error) {
	fields, err := json.Marshal(e.fields)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf(`{"event":%q`, e.name)
	if rest := bytes.TrimPrefix(fields, []byte("{")); !bytes.Equal(rest, []byte("}")) {
		return append([]byte(head+","), rest...), nil
	}
	return []byte(head + "}"), nil
}

// jsonLine is json.Marshal that leaves no character in the text that a
// terminal obeys: encoding/json writes U+009B, which is ESC [, as it is.
func jsonLine(v any) (string, error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(buf.String(), "\n") {
		switch {
		case !obeyed(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String(), nil
}

// obeyed says whether a terminal may take r for a command or let it change
// what the reader sees: control characters of both blocks, format characters
// (writing direction, invisible ones) and other line ends.
func obeyed(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// cleanText makes a text safe for a terminal and keeps its lines. What it
// takes out it replaces, so that one sees that something was there.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case obeyed(r):
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "\r\n", "\n"))
}

// cleanLine is cleanText in one line.
func cleanLine(s string) string { return strings.ReplaceAll(cleanText(s), "\n", " ") }
