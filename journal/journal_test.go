// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stage is the variable that makes the test binary something else: "journald"
// starts a journal in a /run of its own, runs "log" with its standard error in
// there and prints what the journal got.
const stage = "PAMPROMPT_JOURNAL_TEST"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(stage) {
	case "journald":
		err = journald()
	case "log":
		logSome(Logger("pamprompt-test", slog.LevelDebug))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func logSome(log *slog.Logger) {
	log.Info("answered", "event", "answer", "caller-uid", 1000, "user", "anna\nMESSAGE=forged")
	log.With("session", 7).Warn("closed")
	log.Debug("long", "text", strings.Repeat("x", 300<<10)) // more than a datagram takes
}

const journaldPath = "/lib/systemd/systemd-journald"

func journald() error {
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
		os.MkdirAll("/run/systemd/journal", 0o755), os.MkdirAll("/run/log/journal", 0o755)); err != nil {
		return err
	}
	// sd_notify(3) says when it takes entries.
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/notify", Net: "unixgram"})
	if err != nil {
		return err
	}
	var said bytes.Buffer
	daemon := exec.Command(journaldPath)
	daemon.Env = []string{"NOTIFY_SOCKET=/run/notify"}
	daemon.Stdout, daemon.Stderr = &said, &said
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := daemon.Start(); err != nil {
		return err
	}
	for text, n := make([]byte, 4096), 0; !bytes.Contains(text[:n], []byte("READY=1")); {
		if n, err = notify.Read(text); err != nil {
			return err
		}
	}
	if err := logToStream(); err != nil {
		return err
	}
	// It writes what it got before it ends.
	if err := daemon.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	if err := daemon.Wait(); err != nil {
		return fmt.Errorf("journald: %w: %s", err, &said)
	}
	read := exec.Command("journalctl", "--directory=/run/log/journal", "--output=json", "--all", "--no-pager", "--quiet", "--identifier=pamprompt-test", "--identifier=text")
	read.Stdout, read.Stderr = os.Stdout, os.Stderr
	return read.Run()
}

// logToStream runs "log" with a standard error as services have theirs.
func logToStream() error {
	stream, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: "/run/systemd/journal/stdout", Net: "unix"})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	// sd_journal_stream_fd(3): the identifier, the unit, the priority and four switches.
	if _, err := stream.Write([]byte("text\n\n6\n0\n0\n0\n0\n")); err != nil {
		return err
	}
	f, err := stream.File()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	run := func(standardError *os.File) error {
		logger := exec.Command(own)
		logger.Env = append(os.Environ(), stage+"=log", fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
		logger.Stderr = standardError
		return logger.Run()
	}
	// The second one inherits the variable, and has another standard error: the
	// journal may hear nothing of it.
	return errors.Join(run(f), run(nil))
}

func TestWhatTheRealJournalGets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this needs root: a mount namespace with a journal of its own")
	}
	for _, path := range []string{journaldPath, "/usr/bin/journalctl"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%v: the Debian package systemd has it", err)
		}
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), own)
	cmd.Env = append(os.Environ(), stage+"=journald")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &errs)
	}
	var entries []map[string]string
	for line := range strings.Lines(string(out)) {
		e := make(map[string]string)
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %.200s", err, line)
		}
		entries = append(entries, e)
	}
	want := []map[string]string{
		{"MESSAGE": `answered event=answer caller-uid=1000 user="anna\nMESSAGE=forged"`, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "pamprompt-test",
			"PAMPROMPT_EVENT": "answer", "PAMPROMPT_CALLER_UID": "1000", "PAMPROMPT_USER": "anna\nMESSAGE=forged", "_TRANSPORT": "journal", "_UID": "0"},
		{"MESSAGE": "closed session=7", "PRIORITY": "4", "PAMPROMPT_SESSION": "7"},
		{"MESSAGE": "long text=" + strings.Repeat("x", 300<<10), "PRIORITY": "7", "PAMPROMPT_TEXT": strings.Repeat("x", 300<<10)},
	}
	if len(entries) != len(want) {
		t.Fatalf("there are %d entries: %.2000s", len(entries), out)
	}
	for i := range want {
		for name, value := range want[i] {
			if got := entries[i][name]; got != value {
				t.Errorf("%s of entry %d is %.100q, want %.100q", name, i, got, value)
			}
		}
	}
}

func TestStandardErrorThatIsNoJournalGetsText(t *testing.T) {
	for name, variable := range map[string]string{
		"nobody says that it is":           "",
		"it is another than was said":      "JOURNAL_STREAM=1:1",
		"what was said means nothing":      "JOURNAL_STREAM=yes",
		"it is said of the root directory": fmt.Sprintf("JOURNAL_STREAM=%s", rootStat(t)),
	} {
		t.Run(name, func(t *testing.T) {
			own, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(own)
			cmd.Env = append(os.Environ(), stage+"=log", variable)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(errs.String(), ` level=INFO msg=answered event=answer caller-uid=1000 user="anna\nMESSAGE=forged"`) {
				t.Errorf("standard error got %.300q", &errs)
			}
		})
	}
}

func rootStat(t *testing.T) string {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
