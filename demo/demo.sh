#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Opens a PAM session with a password and a one-time code on a bus of its own,
# and shows what happens. With a terminal it asks you; without one it answers
# itself, once over D-Bus and once as systemd's password agents do. `make demo`
# builds the programs first. Nothing outside a temporary directory is touched,
# but for the questions that stand in /run/systemd/ask-password while they wait,
# and nothing is left behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${PAMPROMPT_BUILD:-build}

name=org.pamprompt.Broker1
root=/org/pamprompt/Broker1
user=nobody
agents=/run/systemd/ask-password
password=sesame

if ((EUID != 0)); then
	printf 'the demo needs root, since PAM does: sudo make demo\n' >&2
	exit 1
fi
if [[ -t 1 ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
	bold='' dim='' green='' red='' plain=''
fi
if [[ -t 0 && -t 1 ]]; then ask=yes; else ask=no; fi

for reply_password in {/usr,}/lib/systemd/systemd-reply-password; do
	if [[ -x $reply_password ]]; then break; fi
done

heading() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
command_line() { printf '%s$ %s%s\n' "$dim" "$1" "$plain"; }

dir=$(mktemp -d)
broker=
refused=no
finish() {
	local status=$?
	trap - EXIT
	if [[ -n $broker ]]; then
		kill "$broker" 2>/dev/null || true
		wait "$broker" 2>/dev/null || true
	fi
	# The log is of interest when something broke, not when an answer was wrong.
	if ((status != 0 && status < 128)) && [[ $refused == no && -s $dir/log ]]; then
		printf '\nthe log of the broker and its workers:\n' >&2
		cat "$dir/log" >&2
	fi
	rm -rf "$dir"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The PAM stack: the service demo, whose files are all in $dir. pam_exec asks
# for the password and gives it to a script, whose words prove that it arrived.
make_stack() {
	local key
	key=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
	mkdir "$dir/pam.d"
	cat >"$dir/pam.d/demo" <<-END
		auth     [success=1 default=ignore]  pam_exec.so expose_authtok stdout quiet /bin/sh $dir/check
		auth     requisite  pam_deny.so
		auth     required   pam_oath.so usersfile=$dir/codes digits=6
		account  required   pam_permit.so
		session  required   pam_env.so readenv=0 conffile=$dir/environment
	END
	cat >"$dir/check" <<-'END'
		answer=$(tr -d '\000')
		want=$(cat "$(dirname "$0")/password")
		if [ "$(printf %s "$answer" | sha256sum)" = "$want" ]; then verdict=right; else verdict=wrong; fi
		echo "pam_exec got an answer of ${#answer} characters: it is $verdict"
		[ $verdict = right ]
	END
	printf %s "$password" | sha256sum >"$dir/password"
	printf 'HOTP %s - %s\n' "$user" "$key" >"$dir/codes"
	chmod 600 "$dir/password" "$dir/codes"
	printf '%s\n' 'EDITOR DEFAULT=nano' 'GREETING DEFAULT="hello from pam_env"' >"$dir/environment"
	code=$(oathtool --hotp "$key")
}

show_stack() {
	heading 'A PAM stack, the service "demo"'
	sed "s|$dir/||g; s|^|  |" "$dir/pam.d/demo"
	printf '\n  user      %s\n  password  %s\n  code      %s\n' "$user" "$password" "$code"
}

start_broker() {
	local address
	heading 'The broker, on a bus of its own'
	command_line "pamprompt-broker --private-bus --pam-dir pam.d --ask-password $agents"
	# Of its own session, so that Ctrl-C reaches the demo alone, which then ends
	# the broker, which closes what is open.
	exec 3< <(exec setsid "$build/pamprompt-broker" --private-bus --pam-dir "$dir/pam.d" --ask-password "$agents" 2>"$dir/log")
	broker=$!
	if ! read -r address <&3; then
		printf 'the broker did not start\n' >&2
		exit 1
	fi
	export "${address?}"
	printf '  %s\n' "$address"
}

session() { busctl --timeout=infinity call $name "$path" $name.Session "$@"; }

open_session() {
	heading 'A session is opened'
	command_line "busctl call ... OpenSession demo $user"
	read -r _ id path < <(busctl call $name $root $name.Manager OpenSession 'ssa{sv}' demo "$user" \
		3 linger b true attempts u 3 reason s 'to show you pamprompt')
	path=${path//\"/}
	printf '  session %s is opening\n' "$id"
}

# text undoes what busctl does to quotes and control characters, and leaves the
# latter out.
text() { printf %b "${1//\\\'/\'}" | tr -d '\000-\037\177'; }

# next_prompt AFTER: waits for the next prompt and sets prompt, style, message
# and said (what the modules have said since the last one). It fails when there
# will be none.
next_prompt() {
	local reply string='"(([^"\\]|\\.)*)"'
	reply=$(session NextPrompt t "$1" 2>/dev/null) || return 1
	[[ $reply =~ ^[^\ ]*\ ([0-9]+)\ $string\ $string ]]
	prompt=${BASH_REMATCH[1]} style=${BASH_REMATCH[2]} message=$(text "${BASH_REMATCH[4]}") said=()
	if [[ $reply =~ \"messages\"\ a\(ss\)\ [0-9]+\ (($string\ $string\ ?)+) ]]; then
		reply=${BASH_REMATCH[1]}
		while [[ $reply =~ ^$string\ $string\ ?(.*) ]]; do
			said+=("$(text "${BASH_REMATCH[3]}")")
			reply=${BASH_REMATCH[5]}
		done
	fi
}

# request_file prints the file in which the prompt waits for agents that know no
# D-Bus. There is one of ours: the demo asks one question at a time, and a broker
# of the system has another process number. It comes a moment after the prompt.
request_file() {
	local file tries
	for ((tries = 0; tries < 1000; tries++)); do
		for file in "$agents"/ask.*; do
			if grep -qsx "PID=$broker" "$file"; then
				printf '%s\n' "$file"
				return
			fi
		done
		sleep 0.01
	done
	return 1
}

# show_file shows the question as systemd's agents find it, and sets socket.
show_file() {
	local file
	file=$(request_file) || return 0 # somebody was faster
	printf "  The question for systemd's password agents: boot splash, consoles, terminals, desktops.\n"
	command_line "cat $file"
	sed 's/^/  /' "$file" 2>/dev/null || true
	printf '  To answer it from another terminal, as root:  systemd-tty-ask-password-agent --query\n'
	socket=$(sed -n 's/^Socket=//p' "$file" 2>/dev/null || true)
}

# ask_here asks on the terminal until the prompt is answered, here or elsewhere.
ask_here() {
	local client over tries
	# It shows the messages and the prompt itself.
	"$build/pamprompt-client" answer "$prompt" </dev/tty &
	client=$!
	session NextPrompt t "$prompt" >"$dir/next" 2>&1 & # fails when there is none to come
	over=$!
	wait -n || true
	# One that has answered ends by itself in a moment; one that still asks does not.
	for ((tries = 0; tries < 20; tries++)); do
		if kill -0 "$over" 2>/dev/null || ! kill -0 "$client" 2>/dev/null; then break; fi
		sleep 0.05
	done
	if kill -0 "$client" 2>/dev/null && ! kill -0 "$over" 2>/dev/null; then
		kill "$client"
		wait "$client" || true
		printf '\n  Answered from elsewhere.\n'
		return
	fi
	wait "$client" || (($? == 6)) # answered elsewhere
	wait "$over" || true
}

answer_prompt() {
	local answer=$password line way=dbus socket=''
	if [[ $message == *code* || $message == *One-time* ]]; then answer=$code way=agent; fi
	heading "PAM asks: prompt $prompt"
	show_file
	if [[ $ask == yes ]]; then
		ask_here
		return
	fi
	for line in "${said[@]}"; do printf '  %s\n' "$line"; done
	printf '  (%s) %s%s%s%s\n' "$style" "$message" "$green" "$answer" "$plain"
	if [[ $way == agent && -n $socket ]]; then
		command_line "systemd-reply-password 1 $socket < answer"
		"$reply_password" 1 "$socket" <<<"$answer"
		return
	fi
	command_line "pamprompt-client answer $prompt < answer"
	"$build/pamprompt-client" answer "$prompt" <<<"$answer" || (($? == 6))
}

answer_prompts() {
	prompt=0
	while next_prompt "$prompt"; do answer_prompt; done
}

show_session() {
	heading 'What became of it'
	command_line "pamprompt-client show $id"
	"$build/pamprompt-client" show "$id" | sed 's/^/  /'
	if ! session Wait s open | grep -q '"open"'; then
		printf '\n%sThe session did not open.%s\n' "$red" "$plain"
		refused=yes
		exit 1
	fi
}

close_session() {
	heading 'The session is closed'
	command_line "pamprompt-client close $id"
	"$build/pamprompt-client" close "$id"
	printf '  %s\n' "$(busctl get-property $name "$path" $name.Session State)"
}

make_stack
show_stack
start_broker
open_session
answer_prompts
show_session
close_session
printf '\n%sDone.%s docs/busctl.md does the same by hand.\n' "$green" "$plain"
