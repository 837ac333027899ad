// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Waiting is how many calls of Wait look out for signals.
func (c *Client) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters)
}

// Pauses are the first n pauses of Redial.
func Pauses(n int) []time.Duration {
	var p pauses
	list := make([]time.Duration, n)
	for i := range list {
		list[i] = p.next()
	}
	return list
}
