// SPDX-License-Identifier: Apache-2.0

// Command pamprompt-client is pamprompt on the command line: it opens PAM
// sessions, runs commands in them, lists and answers prompts, watches, and is an
// agent for the terminal. It speaks to the broker on the system bus, or on the
// bus that DBUS_SYSTEM_BUS_ADDRESS names, through package api and nothing else.
//
// It takes no secret from its arguments or its environment, which other
// processes can read, keeps none in a Go string, and writes none anywhere.
// Text from the bus is cleaned before it reaches a terminal.
//
// What a program reads goes to standard output: a number, aligned columns, or
// with --json one JSON object a line. What a person is asked goes to the
// terminal (/dev/tty), whatever the standard streams are. Everything else
// goes to standard error. The file of each subcommand opens with its own rules.
//
//	main.go      the root command
//	exit.go      exit codes, and what to do about an error
//	output.go    columns, JSON lines, cleaned text
//	complete.go  what a shell offers at the Tab key
//	process.go   what keeps answers from other processes of the same user
//	terminal.go  the terminal: reading a line into a secret; terminal_mode.go has its mode
//	back.go      comes back when the bus does
//	ask.go       prompts on the terminal, one after the other
//	opening.go   a session from OpenSession to its end, for open and run
//	doctor...    what is wrong with this machine; doctor_files.go has the files
//	polkit.go    has polkit ask on the terminal
//	run_...      the terminal and the signals of run
//	the others   one subcommand each
//
// Exit codes:
//
//	0  it worked
//	1  any other failure
//	2  the command line is wrong, or the broker says that an argument is
//	3  the bus or the broker cannot be reached, or the bus ended meanwhile
//	4  access denied
//	5  there is no such session or prompt
//	6  the prompt was already answered
//	7  the authentication or the session failed
//	8  cancelled
//	9  timed out
//	10 policy check only: polkit decides
//	127 run only: the command could not be started
//
// run exits with the exit code of its command, once that has started, unless the bus
// ends before it.
package main
