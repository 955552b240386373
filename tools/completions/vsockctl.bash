# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Completion of vsockctl for bash: commands, options, CIDs of the running daemon.
# shellcheck shell=bash

_vsockctl_cids() {
	vsockctl list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_vsockctl() {
	local commands="connect listen forward run bench list show connections stats top events capture
		add remove set reload log-level drain"
	local options="--control --json --uds --limit --sort --interval --groups --limits --off --no-ack
		--serve --seconds --write --port --snaplen --count --help --version"
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command="" word at

	for ((at = 1; at < COMP_CWORD; at++)); do
		word=${COMP_WORDS[at]}
		if [[ " ${commands//[[:space:]]/ } " == *" $word "* ]]; then
			command=$word
			break
		fi
	done
	COMPREPLY=()
	case $prev in
	--control | --uds | --write | -w) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
	--sort) mapfile -t COMPREPLY < <(compgen -W "cid conns in out state" -- "$cur") && return ;;
	--limit | --seconds | --interval | --groups | --limits | --port | --snaplen | --count | -c) return ;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	elif [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
	elif [[ $command == log-level ]]; then
		mapfile -t COMPREPLY < <(compgen -W "error warning notice info debug trace" -- "$cur")
	elif [[ $command == run ]]; then
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
	elif [[ $command =~ ^(connect|listen|bench|show|connections|capture|remove|set|drain)$ && $prev == "$command" ]]
	then
		mapfile -t COMPREPLY < <(compgen -W "$(_vsockctl_cids)" -- "$cur")
	fi
}

complete -F _vsockctl vsockctl
