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
complete -c opsctl -n "__fish_opsctl_needs_command" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_needs_command" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_needs_command" -s V -l version -d 'Print version'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "diagnose" -d 'Check this host and say which finding causes the others'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "bootstrap" -d 'Wait for this host to come up, check it, and apply what interrupts nothing: for cloud-init and images'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "fix" -d 'List what can be fixed, or fix one thing, always asking first'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "undo" -d 'Take back a fix'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "audit" -d 'Show or verify the journal of everything opsctl changed'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "explain" -d 'Explain a code, a runbook, a fix or an alert'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "list" -d 'List runbooks, codes, fixes or alerts'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "report" -d 'For cron: what is new, what is still so and what is over since the last report; nothing when nothing changed'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "respond" -d 'Say what an alert means on this host: its runbooks, the root cause, what was like it before'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "listen" -d 'Answer alerts of Alertmanager and Grafana over HTTP'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "waive" -d 'Say that something is known and does not count for a while'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "changes" -d 'Show what was changed on this host lately: containers, units, packages, files, certificates, notes'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "note" -d 'Remember that something was done to this host, for example a deployment'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "targets" -d 'Show what was found on this host and why'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "record" -d 'Record all evidence, without secrets, to replay it elsewhere'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "config" -d 'Write, check and show the configuration'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "generate" -d 'Write man pages or shell completions'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "celery" -d 'Celery from its broker\'s side: queues, workers that take tasks, beat'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "container" -d 'Containers that are down, looping, killed, frozen or about to be'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "cpu" -d 'Processors that are short, stolen or waiting for disks, and who uses them'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "disk" -d 'Filesystems that are full, filling, read-only or failing, and what eats them'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "dns" -d 'Name servers that are silent, slow or disagree, on the host and in containers'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "healthcheck" -d 'Health tests that fail, cannot run or prove nothing, and what the service itself answers'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "host" -d 'A boot that went wrong or is due, cloud-init, and how the machine is set up'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "memory" -d 'Memory that is short or waited for, who holds it, and whom the kernel killed for it'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "monitoring" -d 'Prometheus, Alertmanager, Loki, Alloy, Grafana: what they do not see, and whether alerts would reach anybody'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "mtu" -d 'Packet sizes: bridges against the way out, full packets that vanish, TCPMSS rules that help or do not'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "network" -d 'Who listens where, whether those who need it get there, what is open to everybody, and what forwards packets'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "nginx" -d 'nginx: its configuration, what it passes requests to, failed requests, sockets, maintenance mode'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "postgres" -d 'PostgreSQL and PgBouncer: connections, locks, WAL, replication, wraparound, room'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "rabbitmq" -d 'RabbitMQ: alarms that block publishers, queues without consumers, partitions'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "redis" -d 'Redis and what speaks its protocol: answers, snapshots, memory, clients, replicas, exposure'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "systemd" -d 'Units that failed, loop, never started, or run something else than what is on disk'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "time" -d 'A clock that nobody keeps right, that is wrong, or that jumped'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "tls" -d 'Certificates: those that are served, those on disk, and whether the next ones will come'
complete -c opsctl -n "__fish_opsctl_needs_command" -f -a "ssl" -d 'Certificates: those that are served, those on disk, and whether the next ones will come'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l skip -d 'Not these runbooks or checks' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l usage -d 'Look at what takes time to look at: what uses a filesystem, everything in the logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand diagnose" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l skip -d 'Not these runbooks or checks' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l wait -d 'Wait at most this long for what is still starting; what can no longer succeed is not waited for' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l log-dir -d 'Folder for bootstrap.json and bootstrap.log [default: the state directory]' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l emit -d 'Print a cloud-config or a systemd unit that installs and runs this, and stop' -r -f -a "cloud-init\t'A cloud-config, for user data'
systemd\t'A systemd unit, for an image'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l from -d 'With --emit: where the machine gets the binary from; without it the image must have it at /usr/local/bin/opsctl' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l sha256 -d 'With --from: SHA-256 of the binary, in hex' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l apply -d 'Apply fixes of the host, systemd and time runbooks that interrupt nothing and can be taken back (R1), without asking'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l check -d 'Only look; the default'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand bootstrap" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l endpoint -d 'Also ask this address when looking for what is wrong (a URL, or host:port for TLS); can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand fix" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "show" -d 'Show the journal, oldest entry first'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "verify" -d 'Find entries that were edited, removed, added, exchanged or cut off, and a journal that was rewritten or removed'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "accept" -d 'Accept a difference that was explained: the head of the journal as it is now is kept from now on'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and not __fish_seen_subcommand_from show verify accept key" -f -a "key" -d 'Create an Ed25519 key pair for signatures: FILE with the private key (mode 600) and FILE.pub; neither may exist'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l last -d 'Only the last N entries' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l format -d 'How to show it' -r -f -a "table\t''
json\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l head -d 'Compare with a head that a report, mail or metric of this host contains; with or without its signature' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l key -d 'Verify signatures with this public key: a file or 64 hex digits; can be given several times. Default: that of the configuration' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l file -d 'Verify a copy of a journal; it is not compared with the state database of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from accept" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand audit; and __fish_seen_subcommand_from key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document'"
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l skip -d 'Not these runbooks or checks' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l digest -d 'Sum up a period: everything that ended in it, what is open, and where the numbers go' -r -f -a "day\t'The last 24 hours'
week\t'The last 7 days'
month\t'The last 30 days'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l owner -d 'Only what belongs to this owner' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l always -d 'Print also when nothing is new, worse or over'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l format -d 'Format on standard output' -r -f -a "text\t'For people'
json\t'One JSON document'
markdown\t'For a chat message or an issue'"
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand respond" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l address -d 'Where to listen; without it, `[listen] address`, or the socket that systemd opened' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -l init -d 'Create the token that callers send, unless there is one, and stop: `[listen] token_file`, or listen-token beside the configuration'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand listen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l for -d 'For how long, for example 2h, 3d or 1w' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l until -d 'Until when, for example 2026-12-01T04:00:00Z' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l from -d 'From when on, for planned work; now without it' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l reason -d 'Why: whoever reads the report has to know' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l tag -d 'What kind it is' -r -f -a "known-issue\t'Somebody knows and works on it'
maintenance\t'Work on the host is planned or under way'
flaky\t'It comes and goes without meaning anything'"
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -l remove -d 'Take waivers back'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand waive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l since -d 'How far back, for example 30m, 2h or 3d' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document'
markdown\t'For a chat message or an issue'"
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand changes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -l at -d 'When it was done, for example 2026-12-01T04:00:00Z; now without it' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand note" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document'"
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand targets" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand record" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "init" -d 'Write a commented file with all keys and their defaults'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "check" -d 'Say whether a file and the runbooks beside it are right (exit code 78 when they are not)'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "show" -d 'Show what is in force and which line set it'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and not __fish_seen_subcommand_from init check show schema" -f -a "schema" -d 'Print the JSON Schema of the configuration'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -l force -d 'Replace a file that exists'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l report -d 'The JSON Schema of the report instead'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -l runbook -d 'The JSON Schema of a team\'s own runbook (`runbooks.d/*.toml`) instead'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -l dir -d 'Folder to write to [default: man or completions]' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand celery" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand container" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand cpu" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand disk" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand dns" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand healthcheck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand host" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand memory" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand monitoring" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand mtu" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand network" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand nginx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand postgres" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand rabbitmq" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand redis" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand systemd" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand time" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand tls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l risk -d 'Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration' -r -f -a "R1\t''
R2\t''
R3\t''"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l format -d 'Format on standard output' -r -f -a "table\t'For people'
json\t'One JSON document (`opsctl config schema --report` prints its schema)'
jsonl\t'One JSON line per finding, then one for the run'
markdown\t'For a chat message or an issue'
html\t'One page with plots that needs nothing else'
junit\t'JUnit XML, for Jenkins and GitLab: a test per check and target'
tap\t'Test Anything Protocol: a test point per check and target'
nagios\t'For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)'
prometheus\t'Metrics for the textfile collector of node_exporter'"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l output -d 'Also write a report to a file, for example json=/tmp/report.json; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l deadline -d 'Stop waiting after this long; what has not answered by then is unknown [default: 10s]' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l replay -d 'Judge a recording instead of this host' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l record -d 'Also write the evidence of this run to a file, as `opsctl record` does' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l endpoint -d 'Also ask this address, and look at its certificate: a URL, or host:port for TLS; can be given several times' -r
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l fail-on -d 'The mildest verdict that makes the exit code differ from 0' -r -f -a "crit\t'crit only'
warn\t'crit and warn'
unknown\t'crit, warn and unknown'
never\t'always exit 0'"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l config -d 'Configuration file instead of $OPSCTL_CONFIG, /etc/opsctl/config.toml and ~/.config/opsctl/config.toml' -r -F
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l color -d 'When to use colour; `auto` is on a terminal and without NO_COLOR' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l fix -d 'Go through the fixes that apply, each through the guard'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l usage -d 'Look at what takes time to look at: what uses a filesystem, what a container keeps in its own layer, all logs of requests'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l dry-run -d 'Show the plan and stop (exit code 10)'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s y -l yes -d 'Do not ask. Covers fixes that interrupt at most one object (R1, R2)'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -l timings -d 'Say on standard error what the time went into'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s q -l quiet -d 'Only what needs attention; nothing when all is well'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s v -l verbose -d 'Also what is merely worth knowing, and all evidence; twice: also what opsctl does'
complete -c opsctl -n "__fish_opsctl_using_subcommand ssl" -s h -l help -d 'Print help (see more with \'--help\')'
