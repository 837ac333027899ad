// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"os"

	"github.com/godbus/dbus/v5"
)

// send puts what stands for a descriptor into the values of a reply.
func (c *calls) send(reply []any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, value := range reply {
		if f, ok := value.(*os.File); ok {
			c.left++
			c.leaving[c.left] = f
			reply[i] = c.left
		}
	}
}

// depart takes the descriptors of a reply, and puts their indexes into its body.
func (c *calls) depart(body []any) (files []*os.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, value := range body {
		ticket, _ := value.(dbus.UnixFDIndex)
		if f := c.leaving[ticket]; f != nil {
			delete(c.leaving, ticket)
			body[i] = dbus.UnixFDIndex(len(files))
			files = append(files, f)
		}
	}
	return files
}

// closeFiles closes the descriptors of a reply that nobody gets.
func closeFiles(reply []any) {
	for _, value := range reply {
		if f, ok := value.(*os.File); ok {
			_ = f.Close()
		}
	}
}
