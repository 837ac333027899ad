/* SPDX-License-Identifier: Apache-2.0 */

#include <signal.h>
#include <stddef.h>

/*
 * The Go runtime passes a fault that happens in C code on to the handler that
 * was there before its own. To be there before, this one is set by a
 * constructor. It takes itself away and returns, so that the faulting
 * instruction runs again and ends the process.
 */
static void fault(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	signal(sig, SIG_DFL);
}

__attribute__((constructor)) static void catch_faults(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigaction(faults[i], &action, NULL);
}

/*
 * abort(3) in a module raises its signal like anybody's kill(2), so the runtime
 * does not pass it on: it is given back its default action once the runtime is up.
 */
void default_faults(void)
{
	static const int aborts[] = {SIGABRT, SIGQUIT, SIGTRAP, SIGSYS};

	for (size_t i = 0; i < sizeof aborts / sizeof *aborts; i++)
		signal(aborts[i], SIG_DFL);
}
