// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// compile makes a rule of a table, or returns an error and its line.
func (t table) compile() (r rule, line int, err error) {
	for _, part := range []struct {
		key      string
		required bool
		array    bool // may be an array
		set      func(*rule, []string) error
	}{
		{"action", true, true, setActions},
		{"service", false, false, setService},
		{"user", false, false, setUser},
		{"caller", false, true, setCallers},
		{"verdict", true, false, setVerdict},
	} {
		v, given := t.values[part.key]
		switch {
		case !given && part.required:
			return rule{}, t.line, fmt.Errorf("the rule has no %s", part.key)
		case !given:
			continue
		case v.array && !part.array:
			return rule{}, v.line, fmt.Errorf("%s is an array: it takes one string", part.key)
		}
		if err := part.set(&r, v.words); err != nil {
			return rule{}, v.line, fmt.Errorf("%s: %w", part.key, err)
		}
	}
	if err := t.whole(&r); err != nil {
		return rule{}, t.line, err
	}
	return r, 0, nil
}

// whole checks what no key alone can say.
func (t table) whole(r *rule) error {
	service, named := t.values["service"]
	_, user := t.values["user"]
	switch {
	case (r.actions[Open] || r.actions[Run] || r.actions[Converse]) && r.verdict != Deny && (!named || !strings.ContainsFunc(service.words[0], alphanumeric)):
		// A stack with pam_rootok lets anybody in when root runs it. In a conversation
		// the service is what whoever answers is told that the password is for.
		return errors.New("a rule that lets somebody open, run or converse must name the service, with a letter or digit in its pattern: " +
			"a service that was not made for this would let anybody in")
	case r.actions[Agent] && (named || user):
		return errors.New("a rule for agent has no service and no user: they are asked for prompt by prompt, as answer")
	case r.actions[Agent] && r.verdict == Polkit:
		return errors.New("there is no polkit action for agent: polkit is asked prompt by prompt, as for answer")
	}
	return nil
}

func alphanumeric(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }

func setActions(r *rule, words []string) error {
	for _, word := range words {
		a, ok := ParseAction(word)
		if !ok {
			return fmt.Errorf("%q is none of %s", word, strings.Join(actionWords[Open:], ", "))
		}
		r.actions[a] = true
	}
	return nil
}

// setService takes a pattern of what the broker takes for a service's name:
// PAM reads capitals as small letters and drops what is before a slash, so that
// a pattern with either would not match what it seems to.
func setService(r *rule, words []string) (err error) {
	const others = "_.@:+-*?"
	if i := strings.IndexFunc(words[0], func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(others, c)
	}); i >= 0 {
		return fmt.Errorf("%q is no pattern of a file of /etc/pam.d: only small letters, digits and any of %s may be in it", words[0], others)
	}
	r.service, err = parseGlob(words[0])
	return err
}

func setUser(r *rule, words []string) (err error) {
	switch word := words[0]; {
	case word == "@self":
		r.self = true
		return nil
	case strings.HasPrefix(word, "@"):
		return fmt.Errorf("%q is no user: only @self starts with @", word)
	case strings.ContainsAny(word, "/:"):
		return fmt.Errorf("%q is no pattern of a user: it holds a slash or a colon", word)
	}
	r.user, err = parseGlob(words[0])
	return err
}

func setCallers(r *rule, words []string) error {
	for _, word := range words {
		m, err := parseCaller(word)
		if err != nil {
			return err
		}
		r.callers = append(r.callers, m)
	}
	return nil
}

func setVerdict(r *rule, words []string) error {
	i := slices.Index(verdictWords, words[0])
	if i < 0 {
		return fmt.Errorf("%q is none of allow, deny, polkit", words[0])
	}
	r.verdict = Verdict(i)
	return nil
}

// parseCaller reads one word of a rule's caller.
func parseCaller(word string) (matcher, error) {
	kind, rest, ok := strings.Cut(word, ":")
	m := matcher{kind: kind}
	var err error
	switch {
	case !ok || rest == "":
		return matcher{}, fmt.Errorf("%q is none of uid:NUMBER, group:NAME, group:NUMBER, unit:PATTERN", word)
	case kind == "uid":
		if m.id, err = ParseID(rest); err == nil && m.id == 0 {
			err = errors.New("is always allowed everything, and needs no rule")
		}
	case kind == "group" && strings.Trim(rest, "0123456789") == "":
		m.id, err = ParseID(rest)
	case kind == "group":
		m.group = rest
		if len(rest) > maxPattern || strings.ContainsAny(rest, "*?:,") || strings.ContainsFunc(rest, unicode.IsControl) {
			err = errors.New("is no name of a group: there are no patterns of groups")
		}
	case kind == "unit":
		m.unit, err = parseUnit(rest)
	default:
		err = fmt.Errorf("is of the kind %q, which is none of uid, group, unit", kind)
	}
	if err != nil {
		return matcher{}, fmt.Errorf("%q: %w", word, err)
	}
	return m, nil
}

// parseUnit wants a suffix, since systemd's units have one: unit:backup would
// match nothing.
func parseUnit(text string) (glob, error) {
	switch {
	case strings.ContainsAny(text, "/"):
		return glob{}, errors.New("holds a slash: it takes the name of a unit")
	case !strings.ContainsFunc(text, alphanumeric):
		return glob{}, errors.New("names no unit: it needs a letter or digit, as everything runs in some unit")
	case !strings.ContainsAny(text, ".*"):
		return glob{}, fmt.Errorf("has no suffix: did you mean %s.service", text)
	}
	return parseGlob(text)
}

// ParseID reads the number of a user or a group: decimal, without a sign or
// leading zeros, at most 4294967294. The next one is no id for the kernel.
func ParseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == noUID || strconv.FormatUint(id, 10) != text {
		return 0, errors.New("is not a number from 0 to 4294967294")
	}
	return uint32(id), nil
}
