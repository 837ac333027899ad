// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
	"github.com/pamprompt/pamprompt/broker/bus"
)

// prompt is a question that waits for its answer: a slot that one answer takes.
// Whether the answer is good the worker says; until then the slot is held by
// a claim, and free again if it was not.
type prompt struct {
	number  uint64
	session *session
	index   uint32
	style   string
	message string
	details map[string]dbus.Variant
	claim   claim                // the answer that is on its way to the worker; nil while the slot is free
	told    map[string]*bus.Peer // whom to tell of the end, by unique name
}

// claim is where whoever answered waits for what the worker says of it; it
// holds one.
type claim chan error

// ask makes a prompt of what a worker said, and tells everybody.
func (s *session) ask(p *worker.Prompt, number uint64) {
	q := &prompt{
		number:  number,
		session: s,
		index:   p.GetIndex(),
		style:   styleName(p.GetStyle()),
		message: clean(p.GetText()),
		details: s.details(p),
		told:    make(map[string]*bus.Peer),
	}
	s.prompt = q
	s.b.prompts[number] = q
	for _, peer := range s.b.audience(s) {
		q.tell(peer)
	}
	s.notify()
}

// details are the circumstances of a question. Absent is what is not known.
func (s *session) details(p *worker.Prompt) map[string]dbus.Variant {
	owner, options := s.start.GetOwner(), s.start.GetOptions()
	d := map[string]any{
		"service":   s.start.GetService(),
		"user":      s.start.GetUser(),
		"owner-uid": owner.GetUid(),
		"attempt":   max(p.GetAttempt(), 1),
		"phase":     p.GetPhase().Word(),
		"index":     p.GetIndex(),
		"source":    "pam",
	}
	if s.resolved {
		d["uid"] = s.uid
	}
	if owner.GetPid() != 0 {
		d["owner-pid"] = owner.GetPid()
	}
	for name, text := range map[string]string{
		"owner-unit": owner.GetUnit(),
		"owner-comm": owner.GetComm(),
		"reason":     options.GetReason(),
		"binary":     base64.StdEncoding.EncodeToString(p.GetBinary()),
	} {
		if text != "" {
			d[name] = text
		}
	}
	if p.GetExpiresUsec() != 0 {
		d["expires"] = p.GetExpiresUsec()
	}
	if len(p.GetChoices()) > 0 {
		d["choices"] = p.GetChoices()
	}
	if len(p.GetMessages()) > 0 {
		d["messages"] = texts(p.GetMessages())
	}
	return variants(d)
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

func (q *prompt) tell(p *bus.Peer) {
	q.told[p.Name] = p
	q.session.b.bus.Send(bus.Signal{
		Dest: p.Name, Path: api.RootPath, Name: api.ManagerInterface + ".Prompt",
		Values: []any{q.number, q.session.path(), q.style, q.message, q.details},
	})
}

// end withdraws the prompt from everybody who was told of it. An answer that is
// on its way learns what became of it.
func (q *prompt) end(outcome string) {
	b := q.session.b
	q.session.prompt = nil
	delete(b.prompts, q.number)
	b.answered.add(past{q.number, q.session.object(), outcome})
	for _, p := range q.told {
		if !p.Left() {
			b.bus.Send(bus.Signal{
				Dest: p.Name, Path: api.RootPath, Name: api.ManagerInterface + ".PromptClosed",
				Values: []any{q.number, outcome},
			})
		}
	}
	if q.claim != nil {
		q.release(ended(q.number, outcome))
	}
	q.session.notify()
}

// release lets go of the claim and tells whoever answered.
func (q *prompt) release(verdict error) {
	q.claim <- verdict
	q.claim = nil
}

// ended is what somebody hears who wants a prompt that has ended.
func ended(number uint64, outcome string) error {
	code, text := api.NoSuchPrompt, "the session of prompt %d has ended"
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
