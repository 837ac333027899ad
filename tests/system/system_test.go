// SPDX-License-Identifier: Apache-2.0

package system_test

import (
	"context"
	"os"
	"testing"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

func TestNothingIsLeftOfABrokerOnItsPrivateBus(t *testing.T) {
	s := system.Start(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	c := s.Client(t)
	session, err := c.Open(context.Background(), "permit", "anna", api.Options{Linger: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Wait(context.Background(), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
}

func TestASessionLivesThroughARestartOfTheBroker(t *testing.T) {
	s := system.StartOnBus(t, system.Options{Stacks: map[string]string{"permit": system.Permit()}})
	c := s.Client(t)
	session, err := c.Open(context.Background(), "permit", "anna", api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Wait(context.Background(), api.StateOpen); err != nil {
		t.Fatal(err)
	}
	s.Kill(t)
	s.Restart(t)
	if err := session.Wait(context.Background(), api.StateOpen); err != nil {
		t.Error(err)
	}
	if err := session.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := session.Wait(context.Background(), api.StateClosed); err != nil {
		t.Error(err)
	}
}
