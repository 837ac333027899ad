// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// mapping is a line of /proc/PID/maps.
type mapping struct {
	from, to uint64
	name     string // what is mapped, and how
}

// hit is a copy that was found.
type hit struct {
	form   string
	at     uint64
	in     mapping
	around []byte
}

func (h hit) String() string {
	return fmt.Sprintf("%s at %#x, %#x into %s, among %q", h.form, h.at, h.at-h.in.from, h.in.name, h.around)
}

const (
	pageSize = 4096
	// chunk is how much is read at once.
	chunk = 256 * pageSize
	// shadow is more than a program of ours maps in one piece: only the race
	// detector does, and what it keeps there is about the memory and no copy.
	shadow = 1 << 36
	// present is what is in memory or in swap: bits 63 and 62 of
	// /proc/PID/pagemap. All other pages were never written to, or are the
	// file's.
	present = 3 << 62
)

// scan looks for a secret in all that a process maps and has written to or
// read. It fails the test for what cannot be read.
func scan(t *testing.T, pid int, k known) []hit {
	t.Helper()
	hits, err := scanProcess(pid, k)
	if err != nil {
		t.Fatalf("scan process %d: %v", pid, err)
	}
	return hits
}

func scanProcess(pid int, k known) (hits []hit, err error) {
	mappings, err := mappingsOf(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = mem.Close() }()
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = pagemap.Close() }()
	for _, m := range mappings {
		if m.to-m.from > shadow || strings.Contains(m.name, "[v") { // [vvar] and its like are the kernel's
			continue
		}
		found, err := scanMapping(mem, pagemap, m, k)
		if err != nil {
			return nil, fmt.Errorf("%s at %#x: %w", m.name, m.from, err)
		}
		hits = append(hits, found...)
	}
	return hits, nil
}

func mappingsOf(pid int) (mappings []mapping, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var m mapping
		if _, err := fmt.Sscanf(line, "%x-%x", &m.from, &m.to); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		fields := strings.Fields(line)
		m.name = strings.Join(append(fields[1:2], fields[5:]...), " ")
		mappings = append(mappings, m)
	}
	if len(mappings) == 0 {
		return nil, errors.New("it maps nothing: it has ended")
	}
	return mappings, nil
}

// scanMapping reads runs of pages that are there, each with the end of the one
// before, since a copy may lie across.
func scanMapping(mem, pagemap io.ReaderAt, m mapping, k known) (hits []hit, err error) {
	const overlap = size - 1
	entries := make([]byte, chunk/pageSize*8)
	text := make([]byte, overlap+chunk)
	filled := 0 // how much of text is from right before at
	for at := m.from; at < m.to; {
		n := min(chunk, m.to-at)
		if _, err := pagemap.ReadAt(entries[:n/pageSize*8], int64(at/pageSize*8)); err != nil {
			return nil, err
		}
		page, run := runOf(entries[:n/pageSize*8])
		if page > 0 {
			filled = 0
		}
		at += page * pageSize
		if run == 0 {
			continue
		}
		read, err := mem.ReadAt(text[filled:filled+int(run*pageSize)], int64(at))
		if err != nil && read == 0 && strings.HasPrefix(m.name, "---") {
			at += run * pageSize // a guard page
			continue
		}
		if err != nil {
			return nil, err
		}
		hits = append(hits, search(text[:filled+read], filled, at-uint64(filled), m, k)...)
		at += run * pageSize
		rest := min(overlap, filled+read)
		copy(text, text[filled+read-rest:filled+read])
		filled = rest
	}
	return hits, nil
}

// runOf is how many pages are not there, and how many are that follow.
func runOf(entries []byte) (absent, there uint64) {
	for ; len(entries) > 0; entries = entries[8:] {
		if binary.NativeEndian.Uint64(entries)&present != 0 {
			there++
		} else if there > 0 {
			break
		} else {
			absent++
		}
	}
	return absent, there
}

// search looks for copies. Those that end in the first bytes, as many as were
// seen before, were found then.
func search(text []byte, seen int, at uint64, m mapping, k known) (hits []hit) {
	for _, f := range k.forms {
		for offset := 0; ; {
			i := bytes.Index(text[offset:], f.bytes)
			if i < 0 {
				break
			}
			offset += i
			if offset+len(f.bytes) <= seen {
				offset++
				continue
			}
			around := text[max(0, offset-32):min(len(text), offset+64)]
			hits = append(hits, hit{f.name, at + uint64(offset), m, bytes.Clone(around)})
			offset++
		}
	}
	return hits
}
