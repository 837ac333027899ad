// SPDX-License-Identifier: Apache-2.0

//go:build !race

package faults

// questions is how many a module asks one after another.
const questions = 10000
