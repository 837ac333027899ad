#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: scripts/install.sh
#
# Puts what make build has built, and all that belongs to it, below $DESTDIR, with
# the prefix $PREFIX. $PAM_STYLE is a folder of dist/pam.d: how /etc/pam.d includes. The
# prefix should be /usr: neither the bus nor systemd's generators look elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

destdir=${DESTDIR:-}
prefix=${PREFIX:-/usr}
bindir=${BINDIR:-$prefix/bin}
libexecdir=${LIBEXECDIR:-$prefix/libexec/pamprompt}
unitdir=${UNITDIR:-$prefix/lib/systemd/system}
tmpfilesdir=${TMPFILESDIR:-$prefix/lib/tmpfiles.d}
sysusersdir=${SYSUSERSDIR:-$prefix/lib/sysusers.d}
generatordir=${GENERATORDIR:-$prefix/lib/systemd/system-generators}
pamdir=${PAMDIR:-/etc/pam.d} # Debian wants none in /usr/lib/pam.d
style=${PAM_STYLE:-debian}
# Where libpam looks for modules is for each distribution to say.
case $style in
debian) libdir=$prefix/lib/$(gcc -print-multiarch) ;;
arch) libdir=$prefix/lib ;;
*) libdir=$prefix/lib64 ;;
esac
# Debian's zsh looks for those of packages in a folder of its own.
zshdir=${ZSHDIR:-$prefix/share/zsh/site-functions}
if [[ $style == debian && $prefix == /usr ]]; then
	zshdir=${ZSHDIR:-/usr/share/zsh/vendor-completions}
fi
moduledir=${PAMMODULEDIR:-$libdir/security}

# put MODE FOLDER FILE...
put() {
	local mode=$1 folder=$destdir$2
	shift 2
	install -d -m 0755 "$folder"
	install -m "$mode" "$@" "$folder"
}

if ! [[ -f dist/pam.d/$style/pamprompt-linger ]]; then
	printf 'PAM_STYLE=%s is none of: %s\n' "$style" "$(cd dist/pam.d && echo *)" >&2
	exit 1
fi
if ! grep -qF "$libexecdir/pamprompt-conv" build/pam_pamprompt.so; then
	printf 'pam_pamprompt.so was built for another place than %s: make build with the same PREFIX and LIBEXECDIR\n' "$libexecdir" >&2
	exit 1
fi
put 0755 "$bindir" build/pamprompt-client
put 0755 "$libexecdir" build/pamprompt-broker build/pamprompt-worker build/pamprompt-conv
put 0644 "$moduledir" build/pam_pamprompt.so
for unit in dist/systemd/*.service dist/systemd/*.socket; do
	made=build/$(basename "$unit")
	sed -e "s|@BINDIR@|$bindir|g" -e "s|@LIBEXECDIR@|$libexecdir|g" "$unit" >"$made"
	put 0644 "$unitdir" "$made"
done
put 0755 "$libexecdir" dist/systemd/close-sessions
put 0755 "$generatordir" dist/systemd/pamprompt-linger-generator
put 0644 "$tmpfilesdir" dist/tmpfiles.d/pamprompt.conf
put 0644 "$sysusersdir" dist/sysusers.d/pamprompt.conf
put 0644 "$pamdir" "dist/pam.d/$style/"*
put 0644 /etc/pamprompt/policy.d dist/policy.d/*.toml
put 0644 "$prefix/share/dbus-1/system-services" dist/dbus-1/org.pamprompt.Broker1.service
put 0644 "$prefix/share/dbus-1/system.d" dbus-1/system.d/org.pamprompt.Broker1.conf
put 0644 "$prefix/share/dbus-1/interfaces" dbus-1/interfaces/*.xml
put 0644 "$prefix/share/polkit-1/actions" dist/polkit/org.pamprompt.policy
# as MODE FOLDER NAME FILE: put, under another name.
as() {
	install -D -m "$1" "$4" "$destdir$2/$3"
}
as 0644 "$prefix/share/bash-completion/completions" pamprompt-client build/completion.bash
as 0644 "$zshdir" _pamprompt-client build/completion.zsh
as 0644 "$prefix/share/fish/vendor_completions.d" pamprompt-client.fish build/completion.fish
for section in 1 5 7 8; do
	put 0644 "$prefix/share/man/man$section" "build/man/man$section/"*
done
put 0644 "$prefix/share/doc/pamprompt" README.md SECURITY.md CHANGELOG.md LICENSE
put 0644 "$prefix/share/doc/pamprompt/docs" docs/*.md
