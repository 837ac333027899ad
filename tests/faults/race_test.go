// SPDX-License-Identifier: Apache-2.0

//go:build race

package faults

// questions is how many a module asks one after another: each takes five times as long
// with the race detector.
const questions = 2000
