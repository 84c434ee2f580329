# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_opsctl_global_optspecs
    string join \n config= color= q/quiet v/verbose h/help V/version
end

function __fish_opsctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_opsctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_opsctl_using_subcommand
    set -l cmd (__fish_opsctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c opsctl -n "__fish_opsctl_needs_command" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_needs_command" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_needs_command" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_needs_command" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_needs_command" -s V -l version -d 'Print version'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "diagnose" -d 'Check this host and name the finding that causes the others'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "bootstrap" -d 'Wait for this host to start, check it, and apply fixes that interrupt nothing: for cloud-init and images'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "fix" -d 'List available fixes, or apply one after confirmation'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "undo" -d 'Revert a fix'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "audit" -d 'Show or verify the journal of everything opsctl changed'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "explain" -d 'Explain a code, a runbook, a fix or an alert'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "list" -d 'List runbooks, codes, fixes or alerts'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "report" -d 'For cron: new, open and resolved findings since the last report; no output without a change'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "respond" -d 'Diagnose an alert on this host: its runbooks, the root cause, earlier episodes'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "listen" -d 'Handle alerts of Alertmanager and Grafana over HTTP'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "waive" -d 'Silence a finding until a given time'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "changes" -d 'Show recent changes to this host: containers, units, packages, files, certificates, notes'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "note" -d 'Record a change to this host, for example a deployment'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "targets" -d 'Show the discovered targets of this host and their sources'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "record" -d 'Record all evidence, without secrets, to replay it elsewhere'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "config" -d 'Write, check and show the configuration'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "generate" -d 'Write man pages or shell completions'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "celery" -d 'Celery from its broker\'s side: queues, consuming workers, beat'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "container" -d 'Containers that are down, restarting, killed, frozen or close to a limit'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "cpu" -d 'Processors that are saturated, stolen or waiting for disks, and their users'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "disk" -d 'Filesystems that are full, filling, read-only or failing, and their largest users'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "dns" -d 'Name servers that time out, are slow or inconsistent, on the host and in containers'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "healthcheck" -d 'Health tests that fail, cannot run or prove nothing, and responses of the services themselves'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "host" -d 'Failed and pending reboots, cloud-init, and the setup of the machine'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "memory" -d 'Memory shortage and pressure, the largest processes, and OOM kills'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "monitoring" -d 'Prometheus, Alertmanager, Loki, Tempo, Mimir, MinIO, Alloy, Promtail, Grafana and exporters: their state, missing targets, and whether alerts reach a receiver'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "mtu" -d 'Packet sizes: bridge MTU against egress MTU, dropped full packets, effective and ineffective TCPMSS rules'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "network" -d 'Listeners, reachability of needed services, exposed ports, packet forwarding and packet filter rules'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "nginx" -d 'nginx: configuration, upstreams, failed requests, sockets, maintenance mode'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "postgres" -d 'PostgreSQL and PgBouncer: connections, locks, WAL, replication, wraparound, disk space'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "rabbitmq" -d 'RabbitMQ: alarms that block publishers, queues without consumers, partitions'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "redis" -d 'Redis and compatible servers: availability, snapshots, memory, clients, replicas, exposure'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "systemd" -d 'Units that failed, restart in a loop, were never started, or run an outdated version'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "time" -d 'A clock that is not synchronised, is wrong, or jumped'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "tls" -d 'Certificates: served, on disk, and their renewal'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "ssl" -d 'Certificates: served, on disk, and their renewal'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l skip -d 'Not these runbooks or checks' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l usage -d 'Also run slow inspections: usage of filesystems by directory, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l skip -d 'Not these runbooks or checks' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l wait -d 'Wait at most this long for services that are still starting; a failure that is final is not waited for' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l log-dir -d 'Directory for bootstrap.json and bootstrap.log [default: the state directory]' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l emit -d 'Print a cloud-config or a systemd unit that installs and runs `opsctl bootstrap`, and exit' -r -f -a "cloud-init\t'A cloud-config, for user data'
systemd\t'A systemd unit, for an image'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l from -d 'With --emit: URL of the binary; without it the image must contain /usr/local/bin/opsctl' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l sha256 -d 'With --from: SHA-256 of the binary, in hex' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l apply -d 'Apply fixes of the host, mtu, systemd and time runbooks that interrupt nothing and can be reverted (R1), without confirmation'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l check -d 'Only diagnose; the default'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l endpoint -d 'Also check this address in the diagnosis (a URL, or host:port for TLS); can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "show" -d 'Show the journal, oldest entry first'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "verify" -d 'Find entries that were edited, removed, added, exchanged or cut off, and a journal that was rewritten or removed'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "accept" -d 'Accept a difference that was explained, and keep the present head of the journal from now on'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "key" -d 'Create an Ed25519 key pair for signatures: FILE with the private key (mode 600) and FILE.pub; neither may exist'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l last -d 'Only the last N entries' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l format -d 'Format on standard output' -r -f -a "table\t''
json\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l head -d 'Compare with a head that a report, mail or metric of this host contains; with or without its signature' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l key -d 'Verify signatures with this public key: a file or 64 hex digits; can be given several times. Default: that of the configuration' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l file -d 'Verify a copy of a journal; it is not compared with the state database of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -l format -d 'Format on standard output' -r -f -a "table\t'Text'
json\t'One JSON document'"
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l skip -d 'Not these runbooks or checks' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l digest -d 'Summarize a period: resolved findings, open findings, and trends' -r -f -a "day\t'The last 24 hours'
week\t'The last 7 days'
month\t'The last 30 days'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l owner -d 'Only findings of this owner' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l always -d 'Print also if no finding is new, worse or resolved'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l format -d 'Format on standard output' -r -f -a "text\t'Text'
json\t'One JSON document'
markdown\t'For a chat message or an issue'"
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l address -d 'Address to listen on; without it, `[listen] address`, or the socket passed by systemd' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l init -d 'Create the token that clients send, unless it exists, and exit: `[listen] token_file`, or listen-token beside the configuration'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l for -d 'Duration, for example 2h, 3d or 1w' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l until -d 'End, for example 2026-12-01T04:00:00Z' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l from -d 'Start, for planned maintenance; default: now' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l reason -d 'Reason, shown in reports' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l tag -d 'Kind of waiver' -r -f -a "known-issue\t'The problem is known and worked on'
maintenance\t'Work on the host is planned or under way'
flaky\t'The check is flaky without a real problem'"
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l remove -d 'Remove waivers'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l since -d 'Period, for example 30m, 2h or 3d' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l format -d 'Format on standard output' -r -f -a "table\t'Text'
json\t'One JSON document'
markdown\t'For a chat message or an issue'"
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -l at -d 'Time of the change, for example 2026-12-01T04:00:00Z; default: now' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -l format -d 'Format on standard output' -r -f -a "table\t'Text'
json\t'One JSON document'"
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "init" -d 'Write a commented file with all keys and their defaults'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "check" -d 'Validate a file and the runbooks beside it (exit code 78 if they are invalid)'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "show" -d 'Show the effective values and the line that set each of them'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "schema" -d 'Print the JSON Schema of the configuration'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -l force -d 'Replace a file that exists'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l report -d 'Print the JSON Schema of the report instead'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l runbook -d 'Print the JSON Schema of a site runbook (`runbooks.d/*.toml`) instead'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -l dir -d 'Directory to write to [default: man or completions]' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One self-contained HTML page with plots'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l deadline -d 'Deadline of the run; checks that have not finished by then are unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l endpoint -d 'Also check this address and its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l fail-on -d 'Lowest verdict with an exit code other than 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l fix -d 'Apply the available fixes, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l usage -d 'Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s y -l yes -d 'Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l timings -d 'Print the time of each step on standard error'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s q -l quiet -d 'Only findings that need attention; no output if all checks are ok'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s v -l verbose -d 'Also informational findings and all evidence; twice: also the log of opsctl itself'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s h -l help -d 'Print help (see more with \'--help\')'
