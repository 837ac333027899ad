#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# After the files are there: dpkg says "configure", rpm how many versions there are.
set -e

case ${1:-} in
configure | [1-9]*) ;;
*) exit 0 ;;
esac
systemd-sysusers pamprompt.conf || true
systemd-tmpfiles --create pamprompt.conf || true
if ! [ -d /run/systemd/system ]; then
	exit 0 # no system runs here: the next boot finds everything
fi
systemctl daemon-reload
# dbus-daemon notices new files by itself, dbus-broker does not.
busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig || true
# After an upgrade: the broker, and with it the pool. The workers with a session go
# on and tell the new broker about it.
systemctl try-restart pamprompt-broker.service || true
