// SPDX-License-Identifier: Apache-2.0

package main

import "os"

// arguments are those that follow the program's name, which whoever starts a
// program may leave out: os.Args[1:] fails then (CVE-2021-4034 of polkit). They
// are not nil, for which cobra would take os.Args.
func arguments() []string { return append([]string{}, os.Args[min(1, len(os.Args)):]...) }
