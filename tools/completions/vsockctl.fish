# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Completion of vsockctl for fish: commands, options, CIDs of the running daemon.

function __vsockctl_cids
    vsockctl list 2>/dev/null | awk 'NR > 1 { print $1 }'
end

set -l commands connect listen forward run bench list show connections stats top events capture \
    add remove set reload log-level drain
set -l of_a_guest connect listen bench show connections capture remove set drain

complete -c vsockctl -f
complete -c vsockctl -l control -r -F -d 'control socket of the daemon'
complete -c vsockctl -l json -d 'results as JSON'
complete -c vsockctl -l uds -r -F -d 'uds-path of the guest'
complete -c vsockctl -l limit -x -d 'at most so many rows'
complete -c vsockctl -l sort -x -a 'cid conns in out state' -d 'column of top'
complete -c vsockctl -l interval -x -d 'seconds between two pictures of top'
complete -c vsockctl -l limits -x -d 'limits as --vm takes them'
complete -c vsockctl -l groups -x -d 'groups, joined by +'
complete -c vsockctl -l serve -d 'the side of the guest'
complete -c vsockctl -l seconds -x -d 'how long it takes'
complete -c vsockctl -l off -d 'take connections again'
complete -c vsockctl -l no-ack -d 'CONNECT is not answered'
complete -c vsockctl -s w -l write -r -F -d 'file for packets'
complete -c vsockctl -l port -x -d 'only packets of this port'
complete -c vsockctl -l snaplen -x -d 'at most so many bytes of a packet'
complete -c vsockctl -s c -l count -x -d 'stop after so many packets'
complete -c vsockctl -s h -l help -d 'print a summary'
complete -c vsockctl -s V -l version -d 'print the version'

set -l none "not __fish_seen_subcommand_from $commands"
complete -c vsockctl -n $none -a connect -d 'join standard input and output to a port of a guest'
complete -c vsockctl -n $none -a listen -d 'let a guest reach a command'
complete -c vsockctl -n $none -a forward -d 'lead a TCP port to a port of a guest, or the reverse'
complete -c vsockctl -n $none -a run -d 'run a program whose AF_VSOCK sockets reach the guests'
complete -c vsockctl -n $none -a bench -d 'throughput and latency to a guest'
complete -c vsockctl -n $none -a list -d 'the VMs'
complete -c vsockctl -n $none -a show -d 'one VM'
complete -c vsockctl -n $none -a connections -d 'the connections'
complete -c vsockctl -n $none -a stats -d 'figures of the daemon'
complete -c vsockctl -n $none -a top -d 'the VMs, live'
complete -c vsockctl -n $none -a events -d 'what happens, line by line'
complete -c vsockctl -n $none -a capture -d 'packets of a VM, for Wireshark and tcpdump'
complete -c vsockctl -n $none -a add -d 'a further VM'
complete -c vsockctl -n $none -a remove -d 'end a VM'
complete -c vsockctl -n $none -a set -d 'change a VM'
complete -c vsockctl -n $none -a reload -d 'have the configuration file read again'
complete -c vsockctl -n $none -a log-level -d 'change what is logged'
complete -c vsockctl -n $none -a drain -d 'take no new connections'

complete -c vsockctl -n "__fish_seen_subcommand_from $of_a_guest" -a '(__vsockctl_cids)'
complete -c vsockctl -n '__fish_seen_subcommand_from log-level' \
    -a 'error warning notice info debug trace'
complete -c vsockctl -n '__fish_seen_subcommand_from run' -a '(__fish_complete_subcommand)'
