#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Before the files go: dpkg says "remove" when that is for good, rpm 0.
set -e

case ${1:-} in
remove | deconfigure | 0) ;;
*) exit 0 ;;
esac
if ! [ -d /run/systemd/system ]; then
	exit 0
fi
systemctl stop 'pamprompt-linger@*.service' || true
# Sessions are closed in order: nobody could do it later.
/usr/libexec/pamprompt/close-sessions || true
systemctl stop pamprompt-sessions.service pamprompt-broker.socket pamprompt-broker.service pamprompt-worker.service || true
# What did not close has no broker that it could come back to.
systemctl kill --signal=SIGKILL pamprompt-worker.service 2>/dev/null || true
