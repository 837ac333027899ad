// SPDX-License-Identifier: Apache-2.0

// Package convtest is the broker's side of the wire for the tests of workers,
// as simple as it can be: broker.go listens, and talks to a worker one packet
// at a time; process.go runs the worker, which is the test binary itself;
// script.go plays a whole session and writes down what the worker said. Only
// tests import it.
package convtest

import "time"

// patience is how long a packet or the end of a process may take before a test
// gives up. No test that works waits for it.
const patience = 30 * time.Second
