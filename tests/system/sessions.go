// SPDX-License-Identifier: Apache-2.0

package system

import (
	"context"
	"testing"

	"github.com/pamprompt/pamprompt/api"
)

// closeAll closes every session and waits until PAM has unwound.
func closeAll(t testing.TB, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := api.Dial(ctx, address)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	sessions, err := c.Sessions(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	for _, info := range sessions {
		session := c.Session(info.ID)
		if session.Close(ctx) == nil {
			_ = session.Wait(ctx, api.StateClosed) // how it ends is not the matter
		}
	}
}
