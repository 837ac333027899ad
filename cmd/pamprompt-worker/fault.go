// SPDX-License-Identifier: Apache-2.0

package main

// void default_faults(void);
import "C"

// defaultFaults lets a fault in a module end the process as it would end a C
// program, by its signal and without a word: the report of the Go runtime
// prints registers, which may hold parts of an answer. A fault in Go code is
// still a panic. fault.c has the rest.
func defaultFaults() { C.default_faults() }
