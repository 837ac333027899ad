// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asUser runs f on a thread that accesses files as another user.
func asUser(t testing.TB, uid int, f func()) {
	t.Helper()
	needRoot(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		_, _ = unix.SetfsuidRetUid(uid)
		if now, _ := unix.SetfsuidRetUid(-1); now != uid {
			t.Error("the thread is still root's")
			return
		}
		f()
	}()
	<-done
}

func TestAThreadWithTheIdentityOfAnother(t *testing.T) {
	const uid = 12345
	dir := folder(t)
	needRoot(t)
	check(t, os.Chown(dir, uid, uid))
	check(t, os.Chmod(dir, 0o700))
	log := new(journal)
	var q *Posted
	var p *Place
	replies := make(chan Reply, 10)
	asUser(t, uid, func() {
		f, err := os.Open(dir)
		if err == nil {
			p, err = At(f, dir, uid, slog.New(slog.NewTextHandler(log, nil)))
		}
		if err == nil {
			q, err = p.Post(Request{Message: "?"}, func(r Reply) { replies <- r })
		}
		if err == nil {
			err = p.Sweep() // leaves what lives
		}
		if err != nil {
			t.Error(err)
		}
	})
	if q == nil {
		t.FailNow()
	}
	defer p.Close()
	defer q.Close()
	for _, name := range names(t, dir) {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(dir, name), &st))
		if st.Uid != uid {
			t.Errorf("%s belongs to %d", name, st.Uid)
		}
	}
	r := &posted{q, t, p, log, replies}
	check(t, r.reply(uid, "1", "from the user\n"))
	if reply := within(t, replies); reply.UID != uid || string(reply.Answer.Bytes()) != "from the user" {
		t.Errorf("it came from %d", reply.UID)
	} else {
		reply.Answer.Wipe()
	}
	r.goesOn() // root may answer too
	check(t, os.Chmod(r.path(), 0o666))
	check(t, os.Chmod(dir, 0o755))
	check(t, r.reply(uid+1, "1", "from another\n"))
	r.goesOn()
	if !strings.Contains(log.String(), "it came from uid 12346") {
		t.Errorf("the log says %q", log)
	}

	// What a dead process of the user has left goes; root's does not.
	for _, name := range []string{"ask.pamprompt-dead", "ask.pamprompt-root"} {
		write(t, dir, name, "")
	}
	check(t, os.Chown(filepath.Join(dir, "ask.pamprompt-dead"), uid, uid))
	asUser(t, uid, func() {
		if err := p.Sweep(); err != nil {
			t.Error(err)
		}
	})
	if left := strings.Join(names(t, dir), " "); strings.Contains(left, "dead") || !strings.Contains(left, "root") || !strings.Contains(left, q.Name()) {
		t.Errorf("left is %s", left)
	}
	// A thread of the user cannot write where only root can.
	mine, _ := place(t)
	asUser(t, uid, func() {
		if _, err := mine.Post(Request{}, func(Reply) {}); !errors.Is(err, unix.EACCES) {
			t.Errorf("the error is %v", err)
		}
	})
}
