#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# After the files are gone: dpkg says "remove", and "purge" when what the
# administrator has set up is to go too; rpm says 0.
set -e

case ${1:-} in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl reset-failed 'pamprompt-*' 2>/dev/null || true
		busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig || true
	fi
	rmdir /run/pamprompt 2>/dev/null || true
	;;
purge)
	rm -rf /etc/pamprompt /etc/systemd/system/pamprompt-*.service.d
	rm -f /etc/systemd/system/*.wants/pamprompt-linger@*.service
	# The group that sysusers.d has made. One with members is the administrator's work, and
	# so is one that is no system group. Whoever gets its number later gets nothing with
	# it: nothing of ours belongs to the group.
	group=$(getent group pamprompt) || group=
	gid=${group#pamprompt:*:}
	case $group in
	pamprompt:*:*[0-9]:)
		if [ "${gid%:}" -lt 1000 ]; then
			groupdel pamprompt || true # not the first group of any user
		fi
		;;
	esac
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	;;
esac
