// SPDX-License-Identifier: Apache-2.0

package pammodule

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// fake is a helper that behaves as it should but for one thing.
func fake(behaviour string, stays bool) {
	if path, ok := strings.CutPrefix(behaviour, "looks:"); ok {
		look(path)
		behaviour = "answers"
	}
	if !stays && behaviour != "starts-never" {
		cmd := exec.Command(os.Args[0], "fake", behaviour, "stays")
		cmd.ExtraFiles = []*os.File{os.NewFile(3, "link")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			os.Exit(4)
		}
		return
	}
	if behaviour == "starts-never" {
		select {}
	}
	c, err := net.FileConn(os.NewFile(3, "link"))
	if err != nil {
		os.Exit(4)
	}
	f := &faker{behaviour, c.(*net.UnixConn)}
	packet := make([]byte, 1<<16)
	for {
		n, err := f.link.Read(packet)
		if err != nil || n < 5 {
			return
		}
		f.reply(packet[0], packet[1:5])
	}
}

// look writes down what a helper has of the program that started it.
func look(path string) {
	var b strings.Builder
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); name != "PWD" && name != "GORACE" { // of the shell
			fmt.Fprintln(&b, "environment", variable)
		}
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil &&
			!strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") { // of the Go runtime
			fmt.Fprintln(&b, entry.Name(), strings.TrimRight(target, "0123456789[]"))
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		var mask uint64
		for _, name := range []string{"SigBlk", "SigIgn"} {
			if n, _ := fmt.Sscanf(line, name+": %x", &mask); n == 1 {
				fmt.Fprintf(&b, "%s %x\n", name, mask&(1<<31-1)) // the C library has the next two for itself
			}
		}
	}
	if session, err := unix.Getsid(0); err == nil && session == os.Getpid() {
		b.WriteString("a session of its own\n")
	}
	_ = os.WriteFile(path, []byte(b.String()), 0o600)
}

type faker struct {
	behaviour string
	link      *net.UnixConn
}

func (f *faker) send(kind byte, number []byte, text string, files ...*os.File) {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, file := range files {
			fds[i] = int(file.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, _ = f.link.WriteMsgUnix(append(append([]byte{kind}, number...), text...), rights, nil)
}

func (f *faker) reply(kind byte, number []byte) {
	null, _ := os.Open("/dev/null")
	defer func() { _ = null.Close() }()
	switch kind {
	case 'O':
		f.ready(number, null)
	case 'T':
		f.send('D', number, "")
	case 'Q':
		f.asked(number, null)
	}
}

func (f *faker) ready(number []byte, file *os.File) {
	switch f.behaviour {
	case "says-nothing":
	case "away":
		f.send('U', number, "there is no broker\x01\n")
	case "another-kind":
		f.send('X', number, "")
	case "asked-too-early":
		f.send('A', number, "", file)
	case "short":
		_, _ = f.link.Write([]byte("R"))
	case "long":
		f.send('U', number, strings.Repeat("x", 5000))
	case "a-descriptor":
		f.send('R', number, "", file)
	case "many-descriptors":
		f.send('A', number, "", file, file, file, file, file)
	case "another-number":
		f.send('R', []byte{9, 9, 9, 9}, "")
	case "leaves":
		f.send('R', number, "")
		_ = f.link.Close()
	default:
		f.send('R', number, "")
	}
}

// responses are what comes on the pipe; nil for one that is held open.
var responses = map[string][]byte{
	"answers":      []byte("+secret"),
	"plants":       []byte("+" + strings.Repeat(".", 300) + "planted-4711-answer"), // not where free(3) writes
	"empty":        []byte("+"),
	"cancels":      []byte("-cancelled"),
	"loses":        {},
	"nul":          []byte("+sec\x00ret"),
	"other":        []byte("secret"),
	"longest":      append([]byte("+"), bytes.Repeat([]byte("x"), 64<<10)...),
	"too-long":     append([]byte("+"), bytes.Repeat([]byte("x"), 64<<10+1)...),
	"packet":       []byte("+AAAACAJhYmM="), // 0 0 0 8 2 a b c
	"two-bytes":    []byte("+AAAACgJhYmMAAA=="),
	"short-packet": []byte("+AAAACQJhYmM="),
	"tiny-packet":  []byte("+AAAABAJhYmM="),
	"loose-bits":   []byte("+AAAACAJhYmN="),
	"no-padding":   []byte("+AAAACAJhYmM"),
	"no-base64":    []byte("+AAAACAJhYm!="),
	"padded-early": []byte("+AAAACA==YmM="),
	"half":         nil,
}

func (f *faker) asked(number []byte, file *os.File) {
	switch f.behaviour {
	case "no-pipe":
		f.send('A', number, "")
		return
	case "two-pipes":
		f.send('A', number, "", file, file)
		return
	case "told-for-asked":
		f.send('D', number, "")
		return
	case "refuses":
		f.send('U', number, "too many wait")
		return
	case "leaves-at-once":
		_ = f.link.Close()
		return
	}
	behaviour := f.behaviour
	if behaviour == "loses-once" {
		mark := filepath.Join(filepath.Dir(os.Args[0]), "lost")
		behaviour = "answers"
		if file, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_ = file.Close()
			behaviour = "loses"
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		os.Exit(4)
	}
	f.send('A', number, "", r)
	_ = r.Close()
	if behaviour == "answers-and-leaves" {
		_ = f.link.Close()
		behaviour = "answers"
	}
	response, known := responses[behaviour]
	if response == nil {
		if !known {
			os.Exit(4)
		}
		_, _ = w.WriteString("+hal")
		f.kept(w)
		return
	}
	_, _ = w.Write(response)
	_ = w.Close()
}

var held []*os.File

// kept keeps a pipe open.
func (f *faker) kept(w *os.File) { held = append(held, w) }
