// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// texts draws what may be in a text, and what no line can hold.
func texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }),
		rapid.SampledFrom(hostile),
		rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(hostile), 2, 4).Draw(t, "parts"), "")
		}),
	)
}

// hostile are texts that somebody would use who wants a line to be more than it is.
var hostile = []string{
	"", " ", "   ", "\n", "\r\n", "\x00", `\`, `\\`, `\\\`, `x\ `, "\\\nSocket=/evil",
	"\n[Ask]\nSocket=/evil", "\r[Ask]\rSocket=/evil", "\u0085Socket=/evil", "\u2028Socket=/evil", "\u2029Socket=/evil", "\vSocket=/evil", "\fSocket=/evil",
	"Socket=/evil", "[Ask]", "#", ";", "=", "%s%n", "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x9b2J", "\u009b2J", "\b\b\b\b", "\x7f",
	"\xff\xfe", "a\xc3", "\xed\xa0\x80", "\u202egnp.drowssap", "\u2066\u2067\u2069", "\u200b\u2060\ufeff", "\u00ad", "\u3164\u115f\uffa0\u034f\u2800", "\ufdd0\uffff\U0010ffff",
	"\U000e0041\U000e007f", "a\u200db", "❤\ufe0f", "e\u0301", `"): Password for root: `, "”): ", "″): ", "''", "“„«»‹›", "Passwort für jürgen: ", "密码：", "🔐",
	strings.Repeat("x", 100_000), strings.Repeat("é", 50_000), strings.Repeat("\n", 100_000) + "x", strings.Repeat(" ", 100_000), strings.Repeat(`"`, 1000), strings.Repeat(".", 5000),
}

func TestWhatFormatWritesParseReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return cut(clean(texts().Draw(t, name)), MaxLine) }
		want := Request{
			Message: text("message"), Icon: text("icon"), ID: text("id"),
			Socket:   "/run/systemd/ask-password/sck.pamprompt-0123456789abcdef",
			PID:      rapid.IntRange(0, maxPID).Draw(t, "pid"),
			NotAfter: rapid.Uint64().Draw(t, "not after"),
			Echo:     rapid.Bool().Draw(t, "echo"), Silent: rapid.Bool().Draw(t, "silent"), AcceptCached: rapid.Bool().Draw(t, "cached"),
		}
		got, err := Parse(want.Format())
		if err != nil || got != want {
			t.Fatalf("%+v came back as %+v: %v\n%s", want, got, err, want.Format())
		}
	})
}

// formatted checks that no text adds a line, or anything else, to a file.
func formatted(t testing.TB, message, icon, id string) {
	t.Helper()
	r := Request{Message: message, Icon: icon, ID: id, Socket: "/run/sck", PID: 7}
	file := string(r.Format())
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	keys := []string{"PID", "Socket", "AcceptCached", "Echo", "NotAfter", "Silent", "Icon", "Id", "Message"}
	if len(lines) > 1+len(keys) || lines[0] != "[Ask]" || strings.ContainsAny(file, "\r\x00") {
		t.Fatalf("%q has %d lines", file, len(lines))
	}
	for _, line := range lines[1:] {
		for keys[0] != line[:strings.IndexByte(line, '=')] {
			keys = keys[1:]
		}
		if line[len(line)-1] == '\\' || len(line) > len("AcceptCached= ")+MaxLine {
			t.Errorf("the line %q is too long, or is continued", line)
		}
	}
	got, err := Parse([]byte(file))
	r.Message, r.Icon, r.ID = cut(clean(message), MaxLine), cut(clean(icon), MaxLine), cut(clean(id), MaxLine)
	if err != nil || got != r {
		t.Errorf("%+v came back as %+v: %v", r, got, err)
	}
}

func TestNoTextAddsALine(t *testing.T) {
	for _, text := range hostile {
		formatted(t, text, "", "")
		formatted(t, text, text, text)
		formatted(t, "Password:", text, text)
	}
	rapid.Check(t, func(rt *rapid.T) {
		formatted(t, texts().Draw(rt, "message"), texts().Draw(rt, "icon"), texts().Draw(rt, "id"))
	})
}

func TestAFileOfSystemd(t *testing.T) {
	got, err := Parse([]byte("[Ask]\nPID=12\nSocket=/run/systemd/ask-password/sck.e0b1\nAcceptCached=1\nEcho=0\nNotAfter=5000000\nSilent=0\nMessage=Passphrase for disk x:\nIcon=drive-harddisk\nId=cryptsetup:/dev/x\n"))
	want := Request{
		Message: "Passphrase for disk x:", Icon: "drive-harddisk", ID: "cryptsetup:/dev/x", Socket: "/run/systemd/ask-password/sck.e0b1",
		PID: 12, NotAfter: 5000000, AcceptCached: true,
	}
	if err != nil || got != want {
		t.Errorf("%+v: %v", got, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"nothing", "", "no Socket="},
		{"no section", "Socket=/a\n", "does not begin with a section"},
		{"another section", "[Install]\nSocket=/a\n", "no Socket="},
		{"a section in another case", "[ask]\nSocket=/a\n", "no Socket="},
		{"a key in another case", "[Ask]\nsocket=/a\n", "no Socket="},
		{"no socket", "[Ask]\nMessage=x\n", "no Socket="},
		{"a section in the middle of a line", "x[Ask]\nSocket=/a\n", "does not begin with a section"},
		{"a section that does not end", "[Ask]\n[Ask\nSocket=/a\n", `"[Ask" is no assignment`},
		{"a section with something behind it", "[Ask]\n[Ask] x\nSocket=/a\n", `"[Ask] x" is no assignment`},
		{"a section with a quotation mark", "[Ask\"]\nSocket=/a\n", "does not begin with a section"},
		{"a NUL", "[Ask]\nSocket=/a\x00\n", "no text"},
		{"a message that is no UTF-8", "[Ask]\nSocket=/a\nMessage=\xff\n", "no text"},
		{"a message with what is no character", "[Ask]\nSocket=/a\nMessage=\ufdd0\n", "no text"},
		{"64 KiB and a byte", "[Ask]\nSocket=/a\n#" + strings.Repeat("x", MaxFile), "longer than 65536"},
		{"a socket without a value", "[Ask]\nSocket=\n", "Socket= is wrong"},
		{"two sockets", "[Ask]\nSocket=/a\nSocket=/b\n", "more than one Socket="},
		{"two that are the same", "[Ask]\nSocket=/a\n[Ask]\nSocket=/a\n", "more than one Socket="},
		{"a socket by a relative path", "[Ask]\nSocket=a\n", "Socket= is wrong: it is no absolute path"},
		{"an abstract socket", "[Ask]\nSocket=@a\n", "Socket= is wrong: it is no absolute path"},
		{"a socket with ..", "[Ask]\nSocket=/run/../etc/a\n", "Socket= is wrong: it has a part .. that goes back"},
		{"a socket of 108 bytes", "[Ask]\nSocket=/" + strings.Repeat("x", 107) + "\n", "longer than 107 bytes"},
		{"a socket with a control character", "[Ask]\nSocket=/a\x01\n", "a control character"},
		{"a socket behind a space that systemd takes for none", "[Ask]\nSocket=\u00a0/a\n", "a space of another kind"},
		{"a socket before such a space", "[Ask]\nSocket=/a\u00a0\n", "a space of another kind"},
		{"such a space within a socket", "[Ask]\nSocket=/a\u00a0b\n", "holds what no path should"},
		{"a line of 2048 bytes", "[Ask]\nSocket=/a\nMessage=" + strings.Repeat("x", 2039) + "\n", "a line of more than 2047 bytes"},
		{"a continued line", "[Ask]\nSocket=/a\nMessage=x\\\nPID=1\n", "goes on in the next one"},
		{"a continued comment", "[Ask]\nSocket=/a\n# x\\ \nPID=1\n", "a comment that goes on"},
		{"lines that CR ends too", "[Ask]\r\nSocket=/a\r\n", "a control character"},
		{"a mark of UTF-8", "\ufeff[Ask]\nSocket=/a\n", "no text"},
		{"a word", "[Ask]\nSocket=/a\nword\n", `"word" is no assignment`},
		{"an assignment before the section", "Message=x\n[Ask]\nSocket=/a\n", "does not begin with a section"},
		{"a socket that systemd passes over", "[Ask]\nSocket=/b'\n", "systemd takes in none"},
		{"a socket with a backslash", "[Ask]\nSocket=/a\\b\n", "systemd takes in none"},
		{"a process of no number", "[Ask]\nSocket=/a\nPID=x\n", "PID= is wrong"},
		{"a negative process", "[Ask]\nSocket=/a\nPID=-1\n", "PID= is wrong"},
		{"a process that cannot be", "[Ask]\nSocket=/a\nPID=4194305\n", "PID= is wrong: there is no such process"},
		{"a process of 33 bits", "[Ask]\nSocket=/a\nPID=4294967297\n", "PID= is wrong"},
		{"an octal number", "[Ask]\nSocket=/a\nNotAfter=010\n", "NotAfter= is wrong: it begins with a zero"},
		{"a hexadecimal number", "[Ask]\nSocket=/a\nNotAfter=0x10\n", "NotAfter= is wrong"},
		{"a number of 65 bits", "[Ask]\nSocket=/a\nNotAfter=18446744073709551616\n", "NotAfter= is wrong"},
		{"a boolean that is none", "[Ask]\nSocket=/a\nEcho=maybe\n", "Echo= is wrong: it is neither yes nor no"},
		{"an empty boolean", "[Ask]\nSocket=/a\nSilent=\n", "Silent= is wrong"},
		{"a number for a boolean", "[Ask]\nSocket=/a\nAcceptCached=2\n", "AcceptCached= is wrong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.says) || r != (Request{}) {
				t.Errorf("%+v: %v, want %q", r, err, c.says)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
}

func TestTheLargestValues(t *testing.T) {
	socket := "/" + strings.Repeat("x", 106)
	text := fmt.Sprintf("[Ask]\nSocket=%s\nPID=4194304\nNotAfter=18446744073709551615\nEcho=YES\nSilent=T\nAcceptCached=On\n", socket)
	text += strings.Repeat("#"+strings.Repeat("x", 2045)+"\n", 33)[:MaxFile-len(text)]
	r, err := Parse([]byte(text))
	if want := (Request{Socket: socket, PID: maxPID, NotAfter: 1<<64 - 1, Echo: true, Silent: true, AcceptCached: true}); err != nil || r != want {
		t.Errorf("%+v: %v", r, err)
	}
}

func seeded(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/" + f.Name()); err != nil || len(seeds) == 0 {
		f.Fatalf("testdata/fuzz/%s has no seeds (%v)", f.Name(), err)
	}
}

// FuzzParse: a file of anybody is a request within its bounds or is refused, and
// its clean parts are the same after another way through a file.
func FuzzParse(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			if r != (Request{}) {
				t.Errorf("%+v comes with the error %v", r, err)
			}
			return
		}
		if checkSocket(r.Socket) != nil || r.PID < 0 || r.PID > maxPID || strings.ContainsAny(r.Message+r.ID+r.Icon, "\n\r\x00") {
			t.Errorf("%+v is out of bounds", r)
		}
		for _, part := range strings.Split(r.Socket, "/") {
			if !strings.Contains(string(text), part) && !strings.Contains(string(text), `\`) {
				t.Errorf("the socket %q is not in the file", r.Socket)
			}
		}
		again, err := Parse(r.Format())
		r.Message, r.Icon, r.ID = cut(clean(r.Message), MaxLine), cut(clean(r.Icon), MaxLine), cut(clean(r.ID), MaxLine)
		if err != nil || again != r {
			t.Errorf("%+v came back as %+v: %v", r, again, err)
		}
	})
}

// FuzzFormat: no text adds anything to a file.
func FuzzFormat(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, message, icon, id string) { formatted(t, message, icon, id) })
}
