// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
	"github.com/pamprompt/pamprompt/policy"
)

// prompt is a question that waits for its answer: a slot that one answer takes.
// Whether the answer is good the worker says; until then the slot is held by
// a claim, and free again if it was not.
type prompt struct {
	b       *Broker
	number  uint64
	asker   asker
	style   string
	message string
	details map[string]dbus.Variant // but for those of detailsFor
	claim   *claim                  // the answer that is on its way to the worker; nil while the slot is free
	told    map[string]*client      // whom to tell of the end, by unique name
	muted   bool                    // it is about to end, and nobody is told of it
	mirror  mirror                  // for agents that know no D-Bus
}

// asker is who puts questions: a transaction, whose worker waits, or another
// program, by a request in the ask-password directory. Its methods run in the
// owner.
type asker interface {
	// object is what policy is told of it.
	object() policy.Object
	// path is the object on the bus; "/" when it has none.
	path() dbus.ObjectPath
	// hearers are whom the question is told to besides agents.
	hearers() []*client
	// waiting are its questions that have not ended, in the order of their numbers.
	waiting() []*prompt
	// about is what the journal says of it.
	about() []slog.Attr
	// mirror brings the copy of a question where systemd's agents look in line with
	// what is wanted.
	mirror(q *prompt)
	// answer passes an answer on. What becomes of it is said on c, by now or
	// later; an error means that the answer did not leave. f stays the caller's.
	answer(q *prompt, c *claim, f *os.File) error
	// cancel gives the question up. That it is given up is seen by its end.
	cancel(q *prompt)
	// ended is called at the end of the question.
	ended(q *prompt)
}

// claim is an answer: who gave it, and where they wait for what the worker says
// of it.
type claim struct {
	by      origin
	verdict chan error // holds one
	passed  bool       // what became of it is said when that is known, also after the end of the prompt
}

func newClaim(by origin) *claim { return &claim{by: by, verdict: make(chan error, 1)} }

// newPrompt adds a prompt to those that wait, and tells everybody.
func (b *Broker) newPrompt(q *prompt) *prompt {
	b.hold(q)
	for _, c := range q.asker.hearers() {
		q.tell(c)
	}
	q.offer()
	return q
}

// hold adds a prompt to those that wait.
func (b *Broker) hold(q *prompt) {
	q.b, q.told = b, make(map[string]*client)
	b.prompts[q.number] = q
}

func variants(values map[string]any) map[string]dbus.Variant {
	out := make(map[string]dbus.Variant, len(values))
	for name, value := range values {
		out[name] = dbus.MakeVariant(value)
	}
	return out
}

// said is one text of a module, with its style: (ss).
type said struct{ Style, Text string }

// saids are the texts of a prompt's details: a(ss).
type saids []said

// Size is for bus.Size.
func (s saids) Size() int {
	n := 0
	for _, one := range s {
		n += bus.Size(one.Style, one.Text)
	}
	return n
}

func texts(messages []*worker.Message) saids {
	out := make(saids, len(messages))
	for i, m := range messages {
		out[i] = said{styleName(m.GetStyle()), clean(m.GetText())}
	}
	return out
}

func (q *prompt) tell(c *client) {
	q.told[c.peer.Name] = c
	q.b.bus.Send(bus.Signal{
		Dest: c.peer.Name, Path: api.RootPath, Name: api.ManagerInterface + ".Prompt",
		Values: []any{q.number, q.asker.path(), q.style, q.message, q.detailsFor(c.who)},
	})
}

// detailsFor are the details that somebody may see: the uid tells whether there
// is such a user, which only the admin and the user may know.
func (q *prompt) detailsFor(who policy.Caller) map[string]dbus.Variant {
	uid, known := uidFor(who, q.asker.object())
	if !known {
		return q.details
	}
	details := maps.Clone(q.details)
	details["uid"] = dbus.MakeVariant(uid)
	return details
}

// uidFor is the uid of the user that an object is about, if somebody may know.
func uidFor(who policy.Caller, o policy.Object) (uid uint32, known bool) {
	return o.UserUID, o.UserKnown && (who.Admin || who.UID == o.UserUID)
}

// end withdraws the prompt from everybody who was told of it. An answer that is
// on its way learns what became of it.
func (q *prompt) end(outcome string) {
	b := q.b
	q.mirror.close() // first, so that whoever hears of the end finds no file
	delete(b.prompts, q.number)
	b.answered.add(past{q.number, q.asker.object(), outcome})
	for _, c := range q.told {
		if !c.peer.Left() {
			b.bus.Send(bus.Signal{
				Dest: c.peer.Name, Path: api.RootPath, Name: api.ManagerInterface + ".PromptClosed",
				Values: []any{q.number, outcome},
			})
		}
	}
	if q.claim != nil && !q.claim.passed {
		q.release(ended(q.number, outcome))
	}
	q.asker.ended(q)
}

// release lets go of the claim and tells whoever answered.
func (q *prompt) release(verdict error) {
	q.claim.verdict <- verdict
	q.claim = nil
}

// ended is what somebody hears who wants a prompt that has ended.
func ended(number uint64, outcome string) error {
	code, text := api.NoSuchPrompt, "prompt %d has ended: whoever asked does not wait any more"
	switch outcome {
	case api.OutcomeAnswered:
		code, text = api.AlreadyAnswered, "prompt %d has been answered"
	case api.OutcomeCancelled:
		code, text = api.Cancelled, "prompt %d was cancelled"
	case api.OutcomeExpired:
		code, text = api.TimedOut, "prompt %d waited too long and has expired"
	}
	return &api.Error{Code: code, Text: fmt.Sprintf(text, number)}
}

// clean makes what a module said fit for a D-Bus string: UTF-8, without NUL.
// It drops nothing: what is not UTF-8 becomes U+FFFD.
func clean(text []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(text), "\uFFFD"), "\x00", "\uFFFD")
}

func styleName(s worker.Style) string {
	switch s {
	case worker.Style_STYLE_VISIBLE:
		return api.StyleVisible
	case worker.Style_STYLE_ERROR:
		return api.StyleError
	case worker.Style_STYLE_INFO:
		return api.StyleInfo
	case worker.Style_STYLE_CHOICE:
		return api.StyleChoice
	case worker.Style_STYLE_BINARY:
		return api.StyleBinary
	}
	return api.StyleSecret // what is not known is not shown
}

func sortedNumbers[V any](m map[uint64]V) []uint64 {
	return slices.Sorted(maps.Keys(m))
}
