// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pamprompt/pamprompt/api"
	"github.com/pamprompt/pamprompt/tests/dbusdaemon"
)

// TestInteractionIsAllowedByTheCallersFlag: polkit asks nobody for a password on
// behalf of who did not say so. godbus 5.2.4 drops the flag of a call.
func TestInteractionIsAllowedByTheCallersFlag(t *testing.T) {
	dir := t.TempDir()
	address := dbusdaemon.Start(t, dir, fmt.Sprintf(`<busconfig><type>session</type><listen>unix:path=%s/bus</listen>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, dir))
	flags := make(chan dbus.Flags, 8)
	broker, err := dbus.Connect(address, dbus.WithIncomingInterceptor(func(m *dbus.Message) {
		if m.Type == dbus.TypeMethodCall && m.Headers[dbus.FieldMember].Value() == "CancelPrompt" {
			flags <- m.Flags
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = broker.Close() }()
	if _, err := broker.RequestName(api.BusName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	client, err := api.Dial(within(t), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, allowed := range []bool{false, true, false} {
		client.AllowInteraction(allowed)
		if err := client.Cancel(within(t), 1); err == nil {
			t.Fatal("a broker without methods answers")
		}
		if got := <-flags&dbus.FlagAllowInteractiveAuthorization != 0; got != allowed {
			t.Errorf("the flag of a call is %v, not %v", got, allowed)
		}
	}
}
