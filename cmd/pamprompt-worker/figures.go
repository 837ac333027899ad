// SPDX-License-Identifier: Apache-2.0

//go:build figures

package main

import "github.com/pamprompt/pamprompt/tests/figures"

// For tests/soak, which looks for what grows. No release is built with this.
func init() { figures.Serve() }
