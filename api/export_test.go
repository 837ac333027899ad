// SPDX-License-Identifier: Apache-2.0

package api

// Waiting is how many calls of Wait look out for signals.
func (c *Client) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters)
}
