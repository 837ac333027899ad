// SPDX-License-Identifier: Apache-2.0

package conv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api/secret"
	"github.com/pamprompt/pamprompt/api/worker"
)

// maxCredential is the longest name that systemd gives a credential.
const maxCredential = 255

// supply is the answer that an administrator may have put into a credential of
// systemd, for a machine where nobody sits. It answers the first secret question
// of a session and no other: systemd would give a stale password to each
// question until all tries are used up, and to whoever asks for a one-time code.
type supply struct {
	dir   string   // $CREDENTIALS_DIRECTORY
	names []string // of the credentials that will do, the best one first
	log   *slog.Logger
}

// newSupply returns nil where no credential may answer. An ordinary user who
// may open sessions must not come in by the password that root has supplied.
func newSupply(dir string, start *worker.Start, log *slog.Logger) *supply {
	owner := start.GetOwner()
	if dir == "" || owner == nil || owner.GetUid() != 0 && int(owner.GetUid()) != os.Geteuid() {
		return nil
	}
	if !filepath.IsAbs(dir) {
		log.Warn("no credentials are used: their directory is no absolute path", "directory", dir)
		return nil
	}
	return &supply{dir: dir, log: log, names: []string{
		"pamprompt." + start.GetService() + "." + start.GetUser(),
		"pam.authtok." + start.GetService(),
	}}
}

// answer looks for the answer, and says which credential it came from. A
// credential that is there and cannot be used ends the search: whoever made it
// did not mean the next one.
func (s *supply) answer() (answer *secret.Secret, name string) {
	if s == nil {
		return nil, ""
	}
	for _, name := range s.names {
		answer, err := readCredential(s.dir, name)
		if err != nil {
			s.log.Warn("a credential cannot be used", "credential", name, "error", err)
			return nil, ""
		}
		if answer != nil {
			return answer, name
		}
	}
	return nil, ""
}

// readCredential returns nil when there is none, or an empty one.
func readCredential(dir, name string) (*secret.Secret, error) {
	if len(name) > maxCredential || strings.ContainsAny(name, "/\x00") {
		return nil, nil // nobody can have made it
	}
	f, err := openCredential(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is no regular file"))
	}
	answer, err := secret.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	answer.Truncate(answerLength(answer.Bytes()))
	if answer.Len() == 0 {
		answer.Wipe()
		return nil, nil
	}
	return answer, nil
}

// openCredential opens a file of the directory itself, and waits for nobody.
func openCredential(dir, name string) (*os.File, error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	defer func() { _ = unix.Close(d) }()
	fd, err := unix.Openat(d, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open it: %w", err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, name)), nil
}

// answerLength is how much of a credential is the answer: what follows a NUL
// are further candidates, and an editor ends a file with a newline.
func answerLength(text []byte) int {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	return len(bytes.TrimSuffix(text, []byte("\n")))
}
