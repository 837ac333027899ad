// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// versioned is a service with a property.
type versioned struct{ value any }

// Get is a member of org.freedesktop.DBus.Properties.
func (v versioned) Get(string, string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant(v.value), nil
}

func TestAPropertyOfAnotherService(t *testing.T) {
	address := startBus(t)
	server := serveOn(t, address, Options{Handler: nothing})
	for _, c := range []struct {
		name  string
		value any // nil: there is no such service
		want  string
		fails bool
	}{
		{"a string", "262-1", "262-1", false},
		{"no string", uint32(262), "", true},
		{"of a service that does not run", nil, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.value != nil {
				service := connect(t, address)
				if err := service.Export(versioned{c.value}, "/thing", "org.freedesktop.DBus.Properties"); err != nil {
					t.Fatal(err)
				}
				if _, err := service.RequestName("org.example.Thing", dbus.NameFlagDoNotQueue); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = service.Close() }()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got, err := server.Property(ctx, "org.example.Thing", "/thing", "org.example.Thing", "Version")
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("it is %q, %v", got, err)
			}
		})
	}
}
