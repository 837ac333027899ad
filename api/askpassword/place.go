// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// System is the directory of the whole system.
const System = "/run/systemd/ask-password"

// Names of what is ours in a directory end in pamprompt- and a random part.
const (
	askPrefix  = "ask." // the only files that agents look at
	sockPrefix = "sck."
	tempPrefix = "tmp."
	ours       = "pamprompt-"
)

// maxNames bounds how many names of a directory are read, which can be a
// user's, who may fill it.
const maxNames = 16384

// Place is a directory of requests. It is held by a descriptor, so that it
// stays the same directory whatever happens to its name. A Place may be used
// from several goroutines.
type Place struct {
	path string // where agents find it
	dir  *os.File
	uid  uint32 // whose answers count, besides root's
	log  *slog.Logger

	mu     sync.Mutex
	posted int // what holds the directory open, besides whoever opened it
	closed bool
}

// Open opens a directory, and makes it first, with mode 0755, if there is none:
// agents and whoever asks do that alike. Answers count when they come from root
// or from our own uid. The caller closes the place.
func Open(path string, log *slog.Logger) (*Place, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return At(dir, path, uint32(os.Geteuid()), log)
}

// At makes a place of a directory that is open already, and that agents find
// at a path. Answers count when they come from root or from uid. The directory
// is the place's from now on, also when At fails.
func At(dir *os.File, path string, uid uint32, log *slog.Logger) (*Place, error) {
	if name := filepath.Join(path, sockPrefix+ours+strings.Repeat("0", 2*randomBytes)); checkSocket(name) != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("a socket in %s would have a name that agents cannot use: %w", path, checkSocket(name))
	}
	return &Place{path: path, dir: dir, uid: uid, log: log}, nil
}

// Close closes the directory, once nothing is posted in it any more: what was
// posted stays until it is closed itself.
func (p *Place) Close() { p.release(0, true) }

// hold keeps the directory open for something that is posted in it.
func (p *Place) hold() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fs.ErrClosed
	}
	p.posted++
	return nil
}

func (p *Place) release(posted int, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posted -= posted
	p.closed = p.closed || closed
	if p.closed && p.posted == 0 {
		_ = p.dir.Close()
	}
}

// Path is where agents find the directory.
func (p *Place) Path() string { return p.path }

// File is the directory, for whoever watches it. It stays the place's.
func (p *Place) File() *os.File { return p.dir }

// Requests are the names of the request files that others have put there, in
// no order; of more than maxNames files, some of them.
func (p *Place) Requests() ([]string, error) {
	names, err := p.names()
	return slices.DeleteFunc(names, func(name string) bool { return !IsRequest(name) }), err
}

// IsRequest reports whether a name in a directory of requests is that of a
// request, and not one of ours.
func IsRequest(name string) bool {
	return strings.HasPrefix(name, askPrefix) && !strings.HasPrefix(name, askPrefix+ours)
}

// IsOurs reports whether a name in a directory of requests is that of a file or
// a socket of a pamprompt, this one or another.
func IsOurs(name string) bool {
	_, _, ok := cutOurs(name)
	return ok
}

func (p *Place) names() ([]string, error) {
	// Of its own, since a directory that was read is at its end.
	dir, err := p.open(".", unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(maxNames)
	if errors.Is(err, io.EOF) { // it is empty
		err = nil
	}
	return names, err
}

// open opens something in the directory to read it, without following a link
// and without waiting for anybody.
func (p *Place) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(p.path, name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(p.path, name)), nil
}

// remove removes a file of ours, and reports whether it did. That it is gone
// already does not matter.
func (p *Place) remove(name string) bool {
	err := unix.Unlinkat(int(p.dir.Fd()), name, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		p.log.Warn("a request for agents could not be removed", "file", filepath.Join(p.path, name), "error", err)
	}
	return err == nil
}

// Sweep removes what a pamprompt that has died has left: files with names of
// ours that belong to the uid whose answers count, and whose socket nobody
// listens to. What belongs to a pamprompt that lives stays.
func (p *Place) Sweep() error {
	names, err := p.names()
	if err != nil {
		return err
	}
	left := make(map[string]bool) // by the random part: whether it is to stay
	for _, name := range names {
		_, id, ok := cutOurs(name)
		if !ok {
			continue
		}
		if _, known := left[id]; !known {
			left[id] = p.alive(id)
		}
		if !left[id] && p.owned(name) && p.remove(name) {
			p.log.Info("a request that was left behind was removed", "file", filepath.Join(p.path, name))
		}
	}
	return nil
}

func cutOurs(name string) (prefix, id string, ok bool) {
	for _, prefix := range []string{askPrefix, sockPrefix, tempPrefix} {
		if id, ok := strings.CutPrefix(name, prefix+ours); ok {
			return prefix, id, true
		}
	}
	return "", "", false
}

// alive reports whether somebody listens to the socket of a request. A file is
// never there without its socket, as long as its process lives.
func (p *Place) alive(id string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer func() { _ = unix.Close(fd) }()
	sock, err := p.socket(sockPrefix + ours + id)
	if err != nil {
		return !errors.Is(err, unix.ENOENT)
	}
	defer func() { _ = unix.Close(sock) }()
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", sock)})
	return !errors.Is(err, unix.ECONNREFUSED)
}

// socket finds a socket of the directory. Not by its name, which in a user's
// directory could be a link to a file system that never answers.
func (p *Place) socket(name string) (int, error) {
	dir := int(p.dir.Fd())
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if errors.Is(err, unix.ENOSYS) {
		// systemd's RestrictSUIDSGID= takes openat2 away. The broker has that, and
		// looks into the system's directory only, where nobody can mount.
		return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	return fd, err
}

func (p *Place) owned(name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(p.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Uid == p.uid &&
		(st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFSOCK)
}

// within is a path by which we find something in the directory, whatever the
// directory's name has become: addresses of sockets know no directory
// descriptors, and are short.
func (p *Place) within(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", p.dir.Fd(), name)
}
