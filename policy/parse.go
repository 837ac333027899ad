// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Limits of rule files.
const (
	maxFile  = 1 << 20 // bytes of one file
	maxRules = 4096    // of all files together
)

// Parse reads the text of one rule file. file is its name for messages only:
// each error starts with it and a line's number, and there is one for whatever
// is not exactly as docs/policy.md has it. Groups keep their names, and match
// nobody until Load has found their numbers.
func Parse(file string, text []byte) (*Rules, error) {
	tables, line, err := readTables(text)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %v", file, line, err)
	}
	r := &Rules{}
	for _, t := range tables {
		compiled, line, err := t.compile()
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %v", file, line, err)
		}
		compiled.file, compiled.line = file, t.line
		compiled.why = fmt.Sprintf("rule %s:%d", file, t.line)
		r.rules = append(r.rules, compiled)
	}
	return r, nil
}

// keys are those of a rule.
var keys = []string{"action", "service", "user", "caller", "verdict"}

// table is a [[rule]] as it is written.
type table struct {
	line   int
	values map[string]value
}

// value is a word or an array of words.
type value struct {
	line  int
	array bool
	words []string
}

// reader goes through the expressions of a file once, from top to bottom. The
// decoder of go-toml would not do: it takes keys in any case, and it does not
// say on which line a rule is.
type reader struct {
	unstable.Parser
	offset, line int // how far lines are counted
}

// lineAt counts on to an offset in the text; offsets only grow.
func (r *reader) lineAt(offset int) int {
	if offset > r.offset {
		r.line += bytes.Count(r.Data()[r.offset:offset], []byte("\n"))
		r.offset = offset
	}
	return r.line
}

// readTables returns the tables of a text, or an error and its line.
func readTables(text []byte) (tables []table, line int, err error) {
	if len(text) > maxFile {
		return nil, 1, fmt.Errorf("the file has more than %d bytes", maxFile)
	}
	r := &reader{line: 1}
	r.Reset(text)
	if valid := bytes.ToValidUTF8(text, nil); len(valid) != len(text) {
		return nil, r.lineAt(firstInvalid(text)), errors.New("the text is not UTF-8")
	}
	for r.NextExpression() {
		if tables, line, err = r.expression(tables); err != nil {
			return nil, line, err
		}
	}
	if err := r.Error(); err != nil {
		line := r.line
		var wrong *unstable.ParserError
		if errors.As(err, &wrong) {
			line = r.lineAt(int(r.Range(wrong.Highlight).Offset))
		}
		return nil, line, err
	}
	return tables, 0, nil
}

// firstInvalid is the offset of the first byte that is not UTF-8.
func firstInvalid(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(text)
}

// expression takes the next table, or the next line of the last one.
func (r *reader) expression(tables []table) (_ []table, line int, err error) {
	e := r.Expression()
	var name []string
	for it := e.Key(); it.Next(); {
		if name == nil {
			line = r.lineAt(int(it.Node().Raw.Offset))
		}
		name = append(name, string(it.Node().Data))
	}
	key := strings.Join(name, ".")
	switch {
	case e.Kind == unstable.ArrayTable && key == "rule":
		if len(tables) == maxRules {
			return nil, line, fmt.Errorf("there are more than %d rules", maxRules)
		}
		return append(tables, table{line, map[string]value{}}), line, nil
	case e.Kind == unstable.Table && key == "rule":
		return nil, line, errors.New("a rule begins with [[rule]], in two brackets")
	case e.Kind != unstable.KeyValue:
		return nil, line, fmt.Errorf("there is no table %q: a file has only [[rule]]", key)
	case len(tables) == 0:
		return nil, line, fmt.Errorf("%q stands before the first [[rule]]", key)
	case !slices.Contains(keys, key):
		return nil, line, fmt.Errorf("there is no key %q: a rule has %s", key, strings.Join(keys, ", "))
	}
	values := tables[len(tables)-1].values
	if _, twice := values[key]; twice {
		return nil, line, fmt.Errorf("the rule has a second %s", key)
	}
	v, err := words(e.Value())
	if err != nil {
		return nil, line, fmt.Errorf("%s %w", key, err)
	}
	v.line = line
	values[key] = v
	return tables, line, nil
}

// words is a string, or an array of strings that is not empty.
func words(n *unstable.Node) (value, error) {
	switch n.Kind {
	case unstable.String:
		return value{words: []string{string(n.Data)}}, nil
	case unstable.Array:
		v := value{array: true}
		for it := n.Children(); it.Next(); {
			if it.Node().Kind != unstable.String {
				return value{}, fmt.Errorf("has %s in its array: it takes strings", it.Node().Kind)
			}
			v.words = append(v.words, string(it.Node().Data))
		}
		if v.words == nil {
			return value{}, errors.New("is an empty array")
		}
		return v, nil
	}
	return value{}, fmt.Errorf("is %s: it takes a string", n.Kind)
}
