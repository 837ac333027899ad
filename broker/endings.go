// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/api/worker"
)

// ending is how one transaction ended.
type ending struct {
	t       *transaction // nil of one that ended under another broker
	index   uint32
	service string
	state   string
	result  int32
	text    string
	asked   bool // it was being closed
}

// packet is what the workers of the other alternatives are told: they know it when
// nobody else does any more.
func (e ending) packet() *worker.ToWorker {
	ended := &worker.Ended{Index: e.index}
	if known := api.ParseResult(e.text); e.state == api.StateFailed && known != nil {
		ended.Failed = &worker.Failed{Error: string(known.Code), PamResult: e.result, Text: worker.Cut(known.Text, worker.MaxString)}
	} else {
		ended.Closed = &worker.Closed{PamResult: e.result, Text: worker.Cut(e.text, worker.MaxString)}
	}
	return &worker.ToWorker{Message: &worker.ToWorker_Ended{Ended: ended}}
}

// remembered is an ending of another broker's time, as a worker was told of it.
func (s *session) remembered(d *worker.Ended) ending {
	e := ending{index: d.GetIndex(), service: s.alternatives.services[d.GetIndex()]}
	if f := d.GetFailed(); f != nil {
		e.state, e.result, e.text = api.StateFailed, f.GetPamResult(), failure(f).Error()
	} else {
		e.state, e.result, e.text = api.StateClosed, d.GetClosed().GetPamResult(), clean(d.GetClosed().GetText())
	}
	return e
}

// tellOthers has the workers of the other alternatives remember an ending, but for the
// one who knows it: nil for none.
func (s *session) tellOthers(e ending, knows *transaction) {
	for _, t := range s.transactions {
		if t != knows {
			t.send(e.packet())
		}
	}
}

// tellEndings has a worker that comes later remember them too, but for those that it
// knows.
func (t *transaction) tellEndings(known []*worker.Ended) {
	for _, e := range t.s.alternatives.endings {
		knows := slices.ContainsFunc(known, func(d *worker.Ended) bool { return d.GetIndex() == e.index })
		if !e.asked && !knows {
			t.send(e.packet())
		}
	}
}

// recall takes from a worker how other alternatives ended under another broker. Those
// are not waited for, and count as if they had ended here. One that is here itself, or
// was, is believed before others.
func (s *session) recall(t *transaction, known []*worker.Ended) {
	a := &s.alternatives
	for _, d := range known {
		if a.seen&(1<<d.GetIndex()) != 0 {
			continue
		}
		e := s.remembered(d)
		a.endings = append(a.endings, e)
		s.found(e.index)
		s.tellOthers(e, t)
	}
	t.tellEndings(known)
}

// found counts an alternative that is not missing any more.
func (s *session) found(index uint32) {
	a := &s.alternatives
	a.seen |= 1 << index
	if a.missing = max(0, a.missing-1); a.missing == 0 {
		a.stopTimer()
	}
}

// outcome is how a session ends whose transactions have all ended: as the one that
// went on; without one, as that of the main service, or if that one had ended before
// the session was closed, as the first one that was closed.
func (s *session) outcome() ending {
	a := &s.alternatives
	all := slices.SortedFunc(slices.Values(a.endings), func(x, y ending) int { return cmp.Compare(x.index, y.index) })
	if i := slices.IndexFunc(all, func(e ending) bool { return e.t != nil && e.t == a.winner }); i >= 0 {
		return all[i]
	}
	if i := slices.IndexFunc(all, func(e ending) bool { return e.asked }); i >= 0 {
		return all[i]
	}
	main := all[0]
	var others []string
	for _, e := range all[1:] {
		word := e.state
		if known := api.ParseResult(e.text); known != nil {
			word = string(known.Code)
		}
		others = append(others, e.service+": "+word)
	}
	if len(others) > 0 {
		main.text += "; " + strings.Join(others, ", ")
	}
	return main
}
