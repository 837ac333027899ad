// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pamprompt/pamprompt/api/secret"
)

// maxWord bounds the word that says why there is no answer.
const maxWord = 64

// ReadResponse waits for the answer; the caller wipes it. It fails with an *Error of code
// Cancelled when somebody cancelled the question or ended the conversation, TimedOut
// when it expired, InvalidArgument when the answer holds a NUL byte, which no module
// takes; with ErrNoBroker when the broker has ended: another one does not know the
// conversation. Nobody but the reader has looked at the answer. When ctx ends first, the
// question still waits, until response is closed.
//
// The answer to a question of StyleBinary is base64.
func ReadResponse(ctx context.Context, response *os.File) (*secret.Secret, error) {
	stop := context.AfterFunc(ctx, func() { _ = response.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := readResponse(response)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return answer, err
}

func readResponse(r io.Reader) (*secret.Secret, error) {
	var sign [1]byte
	switch _, err := io.ReadFull(r, sign[:]); {
	case err == io.EOF:
		return nil, fmt.Errorf("%w: it ended before there was an answer", ErrNoBroker)
	case err != nil:
		return nil, fmt.Errorf("read a response: %w", err)
	}
	switch sign[0] {
	case ResponseTaken:
		return readAnswer(r)
	case ResponseRefused:
		word, err := io.ReadAll(io.LimitReader(r, maxWord))
		if err != nil {
			return nil, fmt.Errorf("read a response: %w", err)
		}
		return nil, refusal(string(word))
	}
	return nil, errors.New("read a response: it begins with neither + nor -")
}

// refusal is what a word of a response means.
func refusal(word string) error {
	switch word {
	case OutcomeCancelled:
		return &Error{Code: Cancelled, Text: "the question was cancelled"}
	case OutcomeExpired:
		return &Error{Code: TimedOut, Text: "nobody answered the question in time"}
	case OutcomeSessionClosed:
		return &Error{Code: Cancelled, Text: "the conversation has ended"}
	}
	// Of a later version; whoever wrote the pipe also chose what is in it.
	return &Error{Code: Cancelled, Text: fmt.Sprintf("the question has no answer: %q", strings.ToValidUTF8(word, "?"))}
}

// readAnswer takes only the room that the answer needs: it may have to stay for a while.
func readAnswer(r io.Reader) (*secret.Secret, error) {
	all, err := secret.Read(r)
	if err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	defer all.Wipe()
	if bytes.IndexByte(all.Bytes(), 0) >= 0 {
		return nil, &Error{Code: InvalidArgument, Text: "the answer holds a NUL byte, which no PAM module can take"}
	}
	answer, err := secret.New(all.Len())
	if err != nil {
		return nil, err
	}
	copy(answer.Bytes(), all.Bytes())
	return answer, nil
}
