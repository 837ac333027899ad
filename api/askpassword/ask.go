// SPDX-License-Identifier: Apache-2.0

package askpassword

import (
	"os"

	"github.com/pamprompt/pamprompt/api/worker"
)

// Ask is the request for a question of a worker's session, to be posted by
// this process.
func Ask(start *worker.Start, p *worker.Prompt) Request {
	q := Question{
		User:    start.GetUser(),
		Service: start.GetService(),
		Reason:  start.GetOptions().GetReason(),
		Text:    string(p.GetText()),
	}
	for _, m := range p.GetMessages() {
		q.Said = append(q.Said, Said{Error: m.GetStyle() == worker.Style_STYLE_ERROR, Text: string(m.GetText())})
	}
	return Request{
		Message:  q.Line(),
		Icon:     "dialog-password",
		ID:       "pamprompt:" + start.GetService() + ":" + start.GetUser(),
		PID:      os.Getpid(),
		NotAfter: p.GetExpiresUsec(),
		Echo:     p.GetStyle() == worker.Style_STYLE_VISIBLE,
	}
}
