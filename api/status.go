// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5"
)

// Status is what a broker says of itself to everybody.
type Status struct {
	Version  string `json:"version"`
	Sessions uint32 `json:"sessions"` // that have not ended
	Prompts  uint32 `json:"prompts"`  // that are pending
	Agents   uint32 `json:"agents"`   // connections that have registered
}

// Status asks the broker, which the bus starts if it can and must.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var all map[string]dbus.Variant
	err := c.call(ctx, RootPath, driver+".Properties.GetAll", ManagerInterface).Store(&all)
	if err != nil {
		return Status{}, fault("GetAll", err)
	}
	return Status{
		Version: value[string](all, "Version"), Sessions: value[uint32](all, "Sessions"),
		Prompts: value[uint32](all, "Prompts"), Agents: value[uint32](all, "Agents"),
	}, nil
}

// OnBus says whether a service of that name is on the bus or can be started by it.
func (c *Client) OnBus(ctx context.Context, name string) (running, activatable bool, err error) {
	if err := c.conn.BusObject().CallWithContext(ctx, driver+".NameHasOwner", 0, name).Store(&running); err != nil {
		return false, false, fmt.Errorf("ask the bus who is on it: %w", err)
	}
	var names []string
	if err := c.conn.BusObject().CallWithContext(ctx, driver+".ListActivatableNames", 0).Store(&names); err != nil {
		return running, false, fmt.Errorf("ask the bus whom it can start: %w", err)
	}
	return running, slices.Contains(names, name), nil
}
