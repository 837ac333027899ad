// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pamprompt/pamprompt/api"
)

// startResponses runs responses; stop ends them and returns when they have.
func startResponses(t *testing.T) (p *responses, stop func()) {
	t.Helper()
	p, err := newResponses()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return p, stop
}

// asking is a question's pipe, whose reader is the test.
type asking struct {
	*os.File
	r    *response
	gone chan struct{} // closed when the responses say so
}

func askOn(t *testing.T, p *responses) *asking {
	t.Helper()
	reader, r, err := p.pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	a := &asking{reader, r, make(chan struct{})}
	p.watch(r, func() { close(a.gone) })
	return a
}

// said is what responses say of an answer.
type verdictOf struct {
	rest bool
	err  error
}

// respond answers; read is closed when the reader has all, if that was to wait for.
func respond(t *testing.T, p *responses, a *asking, text string) (verdictOf, <-chan struct{}) {
	t.Helper()
	f, err := memfdOf(text)
	if err != nil {
		t.Fatal(err)
	}
	said, read := make(chan verdictOf, 1), make(chan struct{})
	p.answer(a.r, f, func(rest bool, err error) { said <- verdictOf{rest, err} }, func() { close(read) })
	return <-said, read
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("nobody says that %s", what)
	}
}

func wantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != want {
		t.Errorf("the pipe holds %d bytes (%.40q), not %d (%.40q): %v", len(got), got, len(want), want, err)
	}
}

// The reader comes when everything is over: all must be in the pipe.
func TestAnAnswerIsWholeBeforeItIsRead(t *testing.T) {
	p, _ := startResponses(t)
	for _, size := range []int{0, 1, 4095, 4096, 4097, 8192, 12289, 65535, api.MaxResponse} {
		text := strings.Repeat("x", size)
		a := askOn(t, p)
		if v, _ := respond(t, p, a, text); v != (verdictOf{}) {
			t.Errorf("an answer of %d bytes: %+v", size, v)
		}
		wantRead(t, a, "+"+text)
	}
}

// A pipe for what people type is no larger than it has to be: a system has only so
// much room for the pipes of one user.
func TestThePipeOfAQuestionIsSmall(t *testing.T) {
	p, _ := startResponses(t)
	a := askOn(t, p)
	for _, size := range []int{0, 4096} {
		if got, err := unix.FcntlInt(a.Fd(), unix.F_GETPIPE_SZ, 0); err != nil || got != 2*os.Getpagesize() {
			t.Errorf("with an answer of %d bytes it has room for %d, %v", size, got, err)
		}
		respond(t, p, a, strings.Repeat("x", 4096))
	}
	if flags, err := unix.FcntlInt(a.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("its reading end does not wait: %x, %v", flags, err)
	}
}

// crowd fills a pipe from outside, as it would be where the kernel gives it no room.
func crowd(t *testing.T, a *asking, slots int) (junk string) {
	t.Helper()
	w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", a.Fd()), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 32*os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	junk = strings.Repeat("j", slots*os.Getpagesize())
	if _, err := w.WriteString(junk); err != nil {
		t.Fatal(err)
	}
	return junk
}

func TestAnAnswerThatDoesNotFitWaitsForItsReader(t *testing.T) {
	p, _ := startResponses(t)
	for _, slots := range []int{16, 31, 32} {
		a := askOn(t, p)
		junk := crowd(t, a, slots)
		text := strings.Repeat("0123456789abcdef", api.MaxResponse/16)
		v, read := respond(t, p, a, text)
		if v != (verdictOf{rest: true}) {
			t.Errorf("%d slots are full, and the answer is taken with %+v", slots, v)
		}
		select {
		case <-read:
			t.Errorf("%d slots are full, and it is read", slots)
		default:
		}
		wantRead(t, a, junk+"+"+text)
		wait(t, read, "it is read")
	}
}

// What there is of a second answer, or of a word that comes too late, is nowhere.
func TestOneAnswerAndNothingAfterIt(t *testing.T) {
	p, _ := startResponses(t)
	for _, slots := range []int{0, 31} {
		a := askOn(t, p)
		junk := crowd(t, a, slots)
		text := strings.Repeat("first", 10000)
		_, _ = respond(t, p, a, text)
		if v, _ := respond(t, p, a, "second"); !errors.Is(v.err, unix.EPIPE) {
			t.Errorf("the second answer: %+v", v)
		}
		if slots == 0 {
			p.end(a.r, api.OutcomeExpired)
		}
		wantRead(t, a, junk+"+"+text)
	}
}

func TestAReaderThatNeverReads(t *testing.T) {
	p, _ := startResponses(t)
	before := openDescriptors(t)
	a := askOn(t, p)
	crowd(t, a, 31)
	v, read := respond(t, p, a, strings.Repeat("x", api.MaxResponse))
	if v != (verdictOf{rest: true}) {
		t.Fatalf("%+v", v)
	}
	p.end(a.r, api.OutcomeSessionClosed) // as at the end of the conversation
	wait(t, read, "nobody will read it")
	_ = a.Close()
	wantDescriptors(t, before)
}

func TestAReaderThatCloses(t *testing.T) {
	p, _ := startResponses(t)
	t.Run("before an answer", func(t *testing.T) {
		a := askOn(t, p)
		_ = a.Close()
		wait(t, a.gone, "the reader is gone")
		if v, _ := respond(t, p, a, "late"); !errors.Is(v.err, unix.EPIPE) {
			t.Errorf("an answer after that: %+v", v)
		}
		p.end(a.r, api.OutcomeSessionClosed)
	})
	t.Run("at the same time as the answer", func(t *testing.T) {
		for range 200 {
			a := askOn(t, p)
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_ = a.Close()
			}()
			if v, _ := respond(t, p, a, "now"); v.err != nil && !errors.Is(v.err, unix.EPIPE) {
				t.Errorf("the answer: %+v", v)
			}
			<-closed
		}
	})
	t.Run("within an answer", func(t *testing.T) {
		a := askOn(t, p)
		crowd(t, a, 31)
		v, read := respond(t, p, a, strings.Repeat("x", api.MaxResponse))
		if v != (verdictOf{rest: true}) {
			t.Errorf("%+v", v)
		}
		_ = a.Close()
		wait(t, read, "the reader is gone")
	})
}

func TestTheWordForNoAnswer(t *testing.T) {
	p, _ := startResponses(t)
	a := askOn(t, p)
	p.end(a.r, api.OutcomeCancelled)
	p.end(a.r, api.OutcomeExpired)
	wantRead(t, a, "-cancelled")
}

// Whoever waits when the broker ends finds nothing but the end of the file.
func TestTheEndOfTheResponses(t *testing.T) {
	before := openDescriptors(t)
	p, stop := startResponses(t)
	waiting, reading := askOn(t, p), askOn(t, p)
	crowd(t, reading, 31)
	_, read := respond(t, p, reading, strings.Repeat("x", api.MaxResponse))
	stop()
	wantRead(t, waiting, "")
	wait(t, read, "nobody will read it")
	// What comes after that finds it closed, and hurts nobody who has its numbers now.
	late := askOn(t, p)
	wait(t, late.gone, "nobody answers")
	wantRead(t, late, "")
	if v, _ := respond(t, p, waiting, "late"); !errors.Is(v.err, unix.EPIPE) {
		t.Errorf("an answer after the end: %+v", v)
	}
	reader, r, err := p.pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.drop(r)
	wantRead(t, reader, "")
	for _, f := range []*os.File{waiting.File, reading.File, late.File, reader} {
		_ = f.Close()
	}
	wantDescriptors(t, before)
}

// An answer that cannot be spliced is refused, and not even its sign is in the pipe.
func TestAnAnswerThatIsNone(t *testing.T) {
	p, _ := startResponses(t)
	a := askOn(t, p)
	f, err := os.Open(t.TempDir()) // a directory
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	p.answer(a.r, f, func(_ bool, err error) { said <- err }, nil)
	if err := <-said; err == nil || errors.Is(err, unix.EPIPE) {
		t.Fatalf("it was taken: %v", err)
	}
	if v, _ := respond(t, p, a, "better"); v != (verdictOf{}) {
		t.Errorf("a better one: %+v", v)
	}
	wantRead(t, a, "+better")
}

// Thousands wait at the cost of a descriptor each, and of no goroutine.
func TestThousandsOfPipesNeedNoGoroutines(t *testing.T) {
	const many = 4000
	p, stop := startResponses(t)
	descriptors, goroutines := openDescriptors(t), runtime.NumGoroutine()
	all := make([]*asking, many)
	for i := range all {
		all[i] = askOn(t, p)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("%d goroutines before, %d with %d pipes", goroutines, got, many)
	}
	for i, a := range all {
		switch i % 3 {
		case 0:
			if v, _ := respond(t, p, a, fmt.Sprint(i)); v != (verdictOf{}) {
				t.Fatalf("answer %d: %+v", i, v)
			}
			wantRead(t, a, fmt.Sprint("+", i))
		case 1:
			_ = a.Close()
			wait(t, a.gone, "a reader is gone")
		case 2:
			p.end(a.r, api.OutcomeExpired)
			wantRead(t, a, "-expired")
		}
		_ = a.Close()
	}
	wantDescriptors(t, descriptors+2) // the stage
	stop()
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// wantDescriptors waits until there are at most as many.
func wantDescriptors(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(patience); openDescriptors(t) > most; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before, %d after", most, openDescriptors(t))
		}
	}
}
