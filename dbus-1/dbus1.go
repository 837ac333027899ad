// SPDX-License-Identifier: Apache-2.0

// Package dbus1 holds the files that D-Bus reads, for the programs that serve
// them: the interface descriptions under interfaces/, which are what
// introspection answers with, and private-bus.conf, the configuration of the
// bus that `pamprompt-broker --private-bus` starts. It holds no code.
package dbus1

import _ "embed"

// ManagerXML describes the interface org.pamprompt.Broker1.Manager.
//
//go:embed interfaces/org.pamprompt.Broker1.Manager.xml
var ManagerXML string

// SessionXML describes the interface org.pamprompt.Broker1.Session.
//
//go:embed interfaces/org.pamprompt.Broker1.Session.xml
var SessionXML string

// PrivateBusConf is the dbus-daemon(1) configuration of the private bus.
//
//go:embed private-bus.conf
var PrivateBusConf string
