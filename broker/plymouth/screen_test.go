// SPDX-License-Identifier: Apache-2.0

package plymouth

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const finger = "anna (systemd-user): Place your finger on the reader"

// What plymouthd says when it shows and hides a message.
func displaying(line string) string { return "displaying message " + line + "\r\n" }
func hiding(line string) string     { return "hiding message " + line + "\r\n" }

func TestATextIsOnTheSplashUntilItIsHidden(t *testing.T) {
	p := startPlymouthd(t, details)
	s, log, _ := run(t)
	s.Show(1, finger)
	p.see(t, displaying(finger))
	p.see(t, finger+"\r\n") // for people
	s.Hide(1)
	p.see(t, hiding(finger))
	p.see(t, hiding("")) // the last of the exchange
	p.client(t, "--ping")
	if n := log.count("level=") + p.count("could not read connection request"); n != 0 {
		t.Errorf("it did not go well: %s", log.all)
	}
}

func TestAHiddenTextIsGoneFromATerminal(t *testing.T) {
	const clear = "\x1b[2K" // the line
	p := startPlymouthd(t, text3)
	s, _, _ := run(t)
	s.Show(1, finger)
	p.see(t, displaying(finger))
	p.see(t, clear)
	p.see(t, finger)
	s.Hide(1)
	p.see(t, hiding(finger))
	p.see(t, clear)
	p.client(t, "--ping")
	p.see(t, "plymouth --ping")
	if strings.Contains(p.unseen(), finger) {
		t.Error("it is on the screen again")
	}
}

func TestTheLastOfAllTextsIsShown(t *testing.T) {
	p := startPlymouthd(t, details)
	s, _, _ := run(t)
	for _, step := range []struct {
		do   func()
		sees []string
	}{
		{func() { s.Show(1, "one") }, []string{displaying("one")}},
		{func() { s.Show(2, "two") }, []string{hiding("one"), displaying("two")}},
		{func() { s.Show(3, "three") }, []string{hiding("two"), displaying("three")}},
		{func() { s.Show(1, "one again") }, []string{hiding("three"), displaying("one again")}},
		{func() { s.Hide(2); s.Hide(7); s.Hide(1) }, []string{hiding("one again"), displaying("three")}},
		{func() { s.Show(3, "three") }, []string{hiding("three"), displaying("three")}}, // said twice, shown twice
		{func() { s.Hide(3) }, []string{hiding("three"), displaying(""), hiding("")}},
	} {
		step.do()
		for _, line := range step.sees {
			p.see(t, line)
		}
	}
	if n := p.count(displaying("two")); n != 1 {
		t.Errorf("the text of the second session was shown %d times, want 1: it was hidden before its turn came", n)
	}
}

func TestATextThatIsShownIsNotSentAgain(t *testing.T) {
	p := startPlymouthd(t, details)
	s := New(newJournal().logger())
	wake := func() { s.put(t.Context(), s.texts.last()) } // as Run does when something has changed
	s.Show(1, "one")
	s.Show(2, "two")
	wake()
	s.Hide(2)
	wake()
	p.see(t, displaying("one"))
	s.Hide(7)
	wake()
	wake()
	s.Show(3, "three")
	wake()
	p.see(t, displaying("three"))
	if n := p.count(displaying("one")); n != 1 {
		t.Errorf("the text was shown %d times, want 1", n)
	}
}

func TestAFloodOfTextsIsOneText(t *testing.T) {
	const many = 10_000
	p := startPlymouthd(t, details)
	s, log, _ := run(t)
	p.stop(t)
	for i := range many {
		s.Show(1, fmt.Sprintf("flood %d", i))
	}
	p.resume(t)
	p.see(t, displaying(fmt.Sprintf("flood %d", many-1)))
	if n := p.count("displaying message flood"); n > 2 && log.count("talk to plymouthd") == 0 {
		t.Errorf("%d of %d texts were sent while plymouthd was stopped, want the first that was taken and the last", n, many)
	}
	s.Hide(1)
	p.see(t, hiding(fmt.Sprintf("flood %d", many-1)))
}

func TestAPlymouthdThatWasStoppedEndsUpRight(t *testing.T) {
	p := startPlymouthd(t, details)
	s, log, _ := run(t)
	p.stop(t)
	s.Show(1, finger)
	log.see(t, "i/o timeout")
	s.Hide(1)
	log.see(t, "i/o timeout")
	p.resume(t)
	for _, line := range []string{displaying(finger), hiding(finger), displaying(""), hiding("")} {
		p.see(t, line)
	}
	s.Show(2, "after that")
	p.see(t, displaying("after that"))
}

func TestWhatIsShownIsHiddenWhenRunEnds(t *testing.T) {
	p := startPlymouthd(t, details)
	s, _, stop := run(t)
	s.Show(1, finger)
	p.see(t, displaying(finger))
	stop()
	p.see(t, hiding(finger))
	p.see(t, hiding(""))
	s.Show(1, "too late") // nothing happens, nothing waits
	s.Hide(1)
}

func TestALongTextIsCut(t *testing.T) {
	p := startPlymouthd(t, details)
	s, _, _ := run(t)
	for _, c := range []struct{ name, line, want string }{
		{"as long as it may be", strings.Repeat("x", 254), strings.Repeat("x", 254)},
		{"one byte longer", strings.Repeat("y", 255), strings.Repeat("y", 254)},
		{"a character across the border", "z" + strings.Repeat("é", 127), "z" + strings.Repeat("é", 126)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Show(1, c.line)
			p.see(t, displaying(c.want))
			s.Hide(1)
			p.see(t, hiding(c.want))
		})
	}
}

func TestAPlymouthdThatStartsLaterShowsOnlyWhatIsNew(t *testing.T) {
	needPrivateMachine(t)
	s, log, _ := run(t)
	s.Show(1, "before its time")
	log.see(t, "plymouthd does not run")
	p := startPlymouthd(t, details)
	s.Show(2, finger)
	p.see(t, displaying(finger))
	s.Hide(2)
	p.see(t, hiding(""))
	if p.count("before its time") != 0 {
		t.Error("a text from before plymouthd ran is on the splash")
	}
	if n := log.count("level=") - log.count("level=DEBUG"); n != 0 {
		t.Errorf("that plymouthd does not run is no news, but the log is %s", log.all)
	}
}

func TestAPlymouthdThatIsStartedAgainIsServed(t *testing.T) {
	s, log, _ := run(t)
	first := startPlymouthd(t, details)
	s.Show(1, finger)
	first.see(t, displaying(finger))
	first.client(t, "quit", "--wait")
	if err := first.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.Hide(1)
	log.see(t, "plymouthd does not run")
	second := startPlymouthd(t, details)
	s.Show(2, "another")
	second.see(t, displaying("another"))
	if second.count(finger) != 0 {
		t.Error("the second plymouthd heard of what the first one showed")
	}
}

func TestShowAndHideDoNotWaitForRun(t *testing.T) {
	s := New(newJournal().logger()) // nobody runs it
	start := time.Now()
	for i := range uint64(10_000) {
		s.Show(i, finger)
		s.Hide(i / 2)
	}
	if took := time.Since(start); took > tooLong {
		t.Errorf("10,000 texts took %v", took)
	}
}
