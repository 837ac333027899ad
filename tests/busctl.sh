#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Opens a session with a password and a one-time code, with nothing but busctl
# and the shell. The bus comes from DBUS_SYSTEM_BUS_ADDRESS, the PAM service,
# the user and the two answers from the environment; tests/programs runs it.
set -euo pipefail
: "${PAM_SERVICE:?}" "${PAM_USER:?}" "${PAM_USER_UID:?}" "${PASSWORD:?}" "${CODE:?}" "${PAM_VARIABLE:?}"

name=org.pamprompt.Broker1
root=/org/pamprompt/Broker1

manager() { busctl --timeout=60 call $name $root $name.Manager "$@"; }
session() { busctl --timeout=60 call $name "$path" $name.Session "$@"; }
property() { busctl get-property $name "$path" $name.Session "$1"; }

fail() {
	printf 'FAIL %s\n' "$*" >&2
	exit 1
}

# same WHAT GOT WANT
same() {
	[[ $2 == "$3" ]] || fail "$1 is <$2>, want <$3>"
	printf 'ok   %s is %s\n' "$1" "$3"
}

# holds WHAT GOT PART
holds() {
	[[ $2 == *"$3"* ]] || fail "$1 is <$2>, and <$3> is not in it"
	printf 'ok   %s holds %s\n' "$1" "$3"
}

# fails ERROR COMMAND...: busctl prints the text of an error, not its name, so
# the name is asked for by what the text must hold.
fails() {
	local want=$1 out
	shift
	if out=$("$@" 2>&1); then fail "$* worked: $out"; fi
	holds "the error of $1 $2" "$out" "$want"
}

# next AFTER: sets number, style and message to those of the next prompt, and
# details to the rest of what busctl prints.
next() {
	local reply string='"(([^"\\]|\\.)*)"'
	reply=$(session NextPrompt t "$1")
	[[ $reply =~ ^tssa\{sv\}\ ([0-9]+)\ $string\ $string\ (.*)$ ]] || fail "NextPrompt said <$reply>"
	number=${BASH_REMATCH[1]} style=${BASH_REMATCH[2]} message=${BASH_REMATCH[4]} details=${BASH_REMATCH[6]}
}

# A busctl call is a connection of its own, so the session must linger.
reply=$(manager OpenSession 'ssa{sv}' "$PAM_SERVICE" "$PAM_USER" 2 linger b true reason s 'a test')
read -r signature id path <<<"$reply"
path=${path//\"/}
same 'the reply of OpenSession' "$signature" to
same 'the path of the session' "$path" "$root/session/$id"

next 0
password=$number
same 'the style of the first prompt' "$style" secret
same 'the first prompt' "$message" 'Password: '
holds 'the details' "$details" "\"service\" s \"$PAM_SERVICE\""
holds 'the details' "$details" "\"user\" s \"$PAM_USER\""
holds 'the details' "$details" '"reason" s "a test"'
holds 'the details' "$details" '"phase" s "authenticate"'
holds 'the details' "$details" '"source" s "pam"'
same 'State' "$(property State)" 's "opening"'
holds ListSessions "$(manager ListSessions)" "$id \"$PAM_SERVICE\" \"$PAM_USER\" $EUID \"opening\" \"$path\""
holds ListPrompts "$(manager ListPrompts)" "$password \"$path\" \"secret\" \"Password: \""
same 'the reply of AnswerPrompt' "$(manager AnswerPrompt ts "$password" "$PASSWORD")" ''

next "$password"
code=$number
[[ $code -gt $password ]] || fail "prompt $code came after $password"
same 'the style of the second prompt' "$style" secret
holds 'the second prompt' "$message" 'One-time password'
holds 'the details' "$details" '"index" u 1'
fails answered manager AnswerPrompt ts "$password" "$PASSWORD"
same 'the reply of AnswerPrompt' "$(manager AnswerPrompt ts "$code" "$CODE")" ''

same 'the reply of Wait' "$(session Wait s open)" 'sis "open" 0 ""'
fails open session NextPrompt t "$code"
same Id "$(property Id)" "t $id"
same Service "$(property Service)" "s \"$PAM_SERVICE\""
same User "$(property User)" "s \"$PAM_USER\""
same UID "$(property UID)" "u $PAM_USER_UID"
same OwnerUID "$(property OwnerUID)" "u $EUID"
same State "$(property State)" 's "open"'
same PAMResult "$(property PAMResult)" 'i 0'
same ResultText "$(property ResultText)" 's ""'
same Linger "$(property Linger)" 'b true'
holds Environment "$(property Environment)" "\"$PAM_VARIABLE\""
[[ $(property OpenedAt) != 't 0' ]] || fail 'OpenedAt is 0'
same 'the number of prompts' "$(busctl get-property $name $root $name.Manager Prompts)" 'u 0'

same 'the reply of Close' "$(session Close)" ''
holds 'the reply of Wait' "$(session Wait s closed)" 'sis "closed" 0 '
same State "$(property State)" 's "closed"'
fails closed session NextPrompt t 0
