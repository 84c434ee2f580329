//! `kill -9` of opsctl while a real server executes its request, and at every system call that reaches another process: the
//! journal records the action, the next run checks and repeats nothing, and the server is in the state from before or from after.
//! `src/fix/tests` kills at every other point.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command};

use crate::lab::{Host, Machine, PEER, RULES, Run, eventually, installed, stack};

/// Starts opsctl and waits until `there` holds.
#[track_caller]
fn start_until(host: &Host, mut command: Command, condition: &str, there: impl Fn() -> bool) -> Child {
    let log = host.path("killed.log");
    let out = std::fs::File::create(&log).unwrap();
    let mut fix = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    eventually(60, condition, || {
        let output = std::fs::read_to_string(&log).unwrap();
        assert!(fix.try_wait().unwrap().is_none(), "opsctl exited before: {output}");
        there().then_some(())
    });
    fix
}

/// Starts a fix, waits until the server is `busy` with it, and kills opsctl.
#[track_caller]
fn kill_while(host: &Host, args: &[&str], busy: impl Fn() -> bool) {
    let mut fix = start_until(host, host.opsctl_command(&[], args), "the server executes the request", busy);
    // nsenter waits for opsctl; there is no other opsctl on this host
    host.sh("pkill -KILL -x opsctl; while pgrep -x opsctl > /dev/null; do sleep 0.05; done");
    fix.wait().unwrap();
}

/// Every system call by which opsctl reaches another process.
const REACHING: &str = "connect,sendto,sendmsg,write,writev,kill,pidfd_send_signal,clone,clone3,vfork";

/// A system call, with its number among the calls of that name in its thread: strace counts them per thread.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    name: String,
    nth: usize,
}

/// The calls in a trace by which opsctl reached another process, each once: without those of its children, of a thread that wakes
/// or starts another one, and the last, with which it kills itself.
fn reaching(trace: &str) -> Vec<Call> {
    let (mut children, mut starting, mut counts) = (HashSet::new(), HashMap::new(), HashMap::new());
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ').map(|(thread, rest)| (thread, rest.trim_start())) else { continue };
        let new_thread = rest.contains("CLONE_THREAD") || (rest.starts_with("<...") && starting.remove(thread) == Some(true));
        let call = rest.strip_prefix("<... ").unwrap_or(rest).split([' ', '(']).next().unwrap_or_default();
        if !REACHING.split(',').any(|name| name == call) || rest.contains("SIGKILL") {
            continue;
        }
        if ["clone", "clone3", "vfork"].contains(&call) {
            if rest.contains("<unfinished") {
                starting.insert(thread, new_thread);
            } else if let (false, Some((_, child))) = (new_thread, rest.rsplit_once(" = ")) {
                children.insert(child);
            }
        }
        if rest.starts_with("<...") {
            continue;
        }
        let nth = counts.entry((thread, call)).or_insert(0);
        *nth += 1;
        let wakes = call == "write" && rest.contains("\"\\1\\0\\0\\0\\0\\0\\0\\0\", 8)");
        let call = Call { name: call.to_owned(), nth: *nth };
        if !children.contains(thread) && !wakes && !new_thread && !calls.contains(&call) {
            calls.push(call);
        }
    }
    calls
}

/// A real server, and a fix of its fault.
struct Fixing<'a> {
    host: &'a Host,
    /// The command line.
    args: &'a [&'a str],
    /// Creates the fault, also repeatedly.
    again: &'a dyn Fn(),
    /// Fails unless the state is that from before or from after the fix.
    whole: &'a dyn Fn(),
}

impl Fixing<'_> {
    /// Kills opsctl at each of its calls between the intent in the journal and the end of the action, one after the other, in a
    /// new run each time. The first run reaches the end of the action and lists the calls.
    #[track_caller]
    fn killed_everywhere(&self) {
        let calls = self.killed_at(None);
        assert!(!calls.is_empty(), "the action made no call");
        for call in &calls {
            self.killed_at(Some(call));
        }
    }

    /// Kills opsctl at a call, or after the action, and returns the calls.
    #[track_caller]
    fn killed_at(&self, point: Option<&Call>) -> Vec<Call> {
        let (host, paused, calls) = (self.host, self.host.path("paused"), self.host.path("calls"));
        (self.again)();
        std::fs::remove_dir_all(host.path("state")).ok();
        let mut fix = host.opsctl_command(&[], self.args);
        fix.env("OPSCTL_FAILPOINT_PAUSE", format!("after-intent={}", paused.display())).env("OPSCTL_FAILPOINT", "after-action");
        let mut fix = start_until(host, fix, "the intent is in the journal", || paused.exists());
        // nsenter waits for opsctl
        let pid = host.sh("pgrep -n -x opsctl");
        let (file, trace) = (calls.display().to_string(), format!("trace={REACHING}"));
        let kill = point.map(|Call { name, nth }| format!("inject={name}:signal=KILL:when={nth}"));
        let kill: Vec<&str> = kill.iter().flat_map(|k| ["-e", k]).collect();
        let _ = std::fs::remove_file(&calls);
        host.spawn("strace", &[&["-qq", "-f", "-o", &file, "-p", &pid, "-e", &trace], &kill[..]].concat());
        eventually(30, "strace is attached", || {
            (host.sh(&format!("sed -n 's/^TracerPid:[[:space:]]*//p' /proc/{pid}/status")) != "0").then_some(())
        });
        std::fs::remove_file(&paused).unwrap();
        fix.wait().unwrap();
        eventually(30, "strace has written its output", || host.sh("pgrep -x strace || true").is_empty().then_some(()));
        let calls = std::fs::read_to_string(&calls).unwrap();
        // shown when an assertion fails
        eprintln!("killed at {point:?}:\n{calls}");
        (self.whole)();
        reported_and_not_repeated(host, self.args);
        (self.whole)();
        reaching(&calls)
    }
}

/// The journal is intact and has the interrupted action; the next run reports it, does not repeat it, and records its outcome.
#[track_caller]
fn reported_and_not_repeated(host: &Host, args: &[&str]) -> Run {
    let journal = || host.opsctl(&["audit", "show"]).stdout.clone();
    host.opsctl(&["audit", "verify"]).exits(0);
    let intents = journal().matches("intent").count();
    let next = host.opsctl(args);
    assert!(next.stdout.contains("opsctl was interrupted at") && next.stdout.contains("nothing was repeated"), "{}", next.stdout);
    assert_eq!(journal().matches("intent").count(), intents, "a new action was started: {}", journal());
    assert!(journal().contains("interrupted"), "{}", journal());
    host.opsctl(&["audit", "verify"]).exits(0);
    next
}

#[test]
fn killed_during_a_blocked_alter_role() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.postgres("");
    host.psql("CREATE TABLE t (a int)");
    host.psql("GRANT ALL ON t TO app");
    host.configure("[runbooks.postgres]\nidle_warn_s = 1.0\nidle_crit_s = 2.0\n");
    host.session("holder", "BEGIN; SELECT 1");
    let args = ["fix", "pg.set-guard", "127.0.0.1:5432", "--yes"];
    eventually(60, "the fix is offered", || {
        host.run_runbooks(&["postgres"])
            .report()
            .fixes
            .iter()
            .any(|f| f.id == "pg.set-guard" && f.refused.is_none())
            .then_some(())
    });
    // another session is altering the same role
    let other = [
        "psql",
        "-q",
        "-h",
        "/run/postgresql",
        "-c",
        "BEGIN",
        "-c",
        "ALTER ROLE app SET work_mem = '5MB'",
        "-c",
        "\\! sleep 600",
    ];
    host.spawn("setpriv", &[&["--reuid", "postgres", "--regid", "postgres", "--clear-groups"], &other[..]].concat());
    let holds = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ALTER ROLE app%' AND state LIKE 'idle in%'";
    eventually(60, "the other session holds the lock", || (host.psql(holds) == "1").then_some(()));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'opsctl' AND wait_event_type = 'Lock'";
    kill_while(&host, &args, || host.psql(waits) == "1");
    reported_and_not_repeated(&host, &args);
}

#[test]
fn killed_during_the_start_of_a_unit() {
    let Some(m) = Machine::boot() else { return };
    m.unit(
        "slow.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo x >> /run/starts; [ -e /run/fixed ] || exit 1; while [ ! -e /run/go ]; do sleep 0.1; done'\n[Install]\nWantedBy=multi-user.target",
    );
    m.sh("systemctl enable -q slow.service; ! systemctl start slow.service 2> /dev/null; touch /run/fixed");
    m.sh("setsid --fork opsctl fix systemd.restart slow.service --yes > /run/fix.log 2>&1");
    m.wait_for(
        "the unit is starting",
        "[ $(wc -l < /run/starts) = 2 ] && systemctl show -p ActiveState slow.service | grep -q activating",
    );
    m.sh("pkill -KILL -x opsctl; while pgrep -x opsctl > /dev/null; do sleep 0.05; done; opsctl audit verify");
    let next = m.fix("systemd.restart", "slow.service", &[]);
    assert!(!next.stdout.contains("applied"), "the unit was started a second time: {}", next.stdout);
    m.sh("touch /run/go; until systemctl is-active -q slow.service; do sleep 0.1; done; opsctl audit verify");
    assert_eq!(m.sh("wc -l < /run/starts"), "2");
    let last = m.opsctl(&["fix"]);
    assert!(!last.stdout.contains("was interrupted"), "the interrupted fix was not resolved: {}", last.stdout);
    let shown = m.opsctl(&["audit", "show"]).stdout.clone();
    assert!(shown.contains("interrupted"), "{shown}");
}

#[test]
fn killed_in_every_call_of_redis_set_maxmemory() {
    if !installed(&["redis-server", "strace"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.cache("80m", 56);
    let limit = || host.docker(&["exec", "cache", "redis-cli", "config", "get", "maxmemory"]).lines().last().unwrap().to_owned();
    Fixing {
        host: &host,
        args: &["fix", "redis.maxmemory", "cache", "--yes"],
        again: &|| _ = host.docker(&["exec", "cache", "redis-cli", "config", "set", "maxmemory", "0"]),
        whole: &|| assert!(["0", "62914560"].contains(&limit().as_str()), "{}", limit()),
    }
    .killed_everywhere();
}

#[test]
fn killed_in_every_call_of_redis_bgsave() {
    let Some(host) = Host::with_servers(&["redis-server", "strace"]) else { return };
    host.redis_with_disk();
    let whole = || {
        host.sh("[ ! -e /mnt/redis/dump.rdb ] || redis-check-rdb /mnt/redis/dump.rdb");
        host.sh("redis-cli ping | grep -E 'PONG|MISCONF'");
    };
    let args = ["fix", "redis.bgsave", "127.0.0.1:6379", "--yes"];
    Fixing { host: &host, args: &args, again: &|| host.fail_to_save(), whole: &whole }.killed_everywhere();
}

#[test]
fn killed_in_every_call_of_the_postgres_fixes() {
    let Some(host) = Host::with_servers(&["psql", "strace"]) else { return };
    host.postgres("wal_level = logical");
    host.configure(
        "[runbooks.postgres]\nidle_warn_s = 1.0\nidle_crit_s = 2.0\npile_up_s = 1.0\nquery_warn_s = 1.0\nquery_crit_s = 2.0\nslot_warn_bytes = 16777216\n\
         [policy]\nallow = [\"pg.drop-slot\"]\n",
    );
    host.session("setup", "CREATE TABLE t (a int)");
    let offered = |fix: &str| {
        eventually(60, "the fix is offered", || {
            host.run_runbooks(&["postgres"]).report().fixes.iter().any(|f| f.id == fix && f.refused.is_none()).then_some(())
        });
    };
    let fixing = |fix: &str, more: &[&str], again: &dyn Fn(), whole: &dyn Fn()| {
        let again = || {
            again();
            offered(fix);
        };
        let args = [&["fix", fix, "127.0.0.1:5432", "--yes"], more].concat();
        Fixing { host: &host, args: &args, again: &again, whole }.killed_everywhere();
    };
    let none_of = |name: &str| {
        host.psql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"));
        eventually(30, "the session has ended", || host.backend(name).is_empty().then_some(()));
    };

    let slots = "SELECT count(*) FROM pg_replication_slots";
    let lag = || {
        if host.psql(slots) == "0" {
            host.psql("SELECT pg_create_physical_replication_slot('gone', true)");
            host.psql("SELECT pg_logical_emit_message(false, 'lab', repeat('x', 20000000)); SELECT pg_switch_wal()");
        }
    };
    fixing("pg.drop-slot", &["--risk", "R3"], &lag, &|| assert!(["0", "1"].contains(&host.psql(slots).as_str())));
    host.psql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");

    let role = "SELECT coalesce(rolconfig::text, '') FROM pg_roles WHERE rolname = 'app'";
    host.session("holder", "BEGIN; SELECT * FROM t");
    let set = "{idle_in_transaction_session_timeout=10min}";
    fixing("pg.set-guard", &[], &|| _ = host.psql("ALTER ROLE app RESET ALL"), &|| {
        assert!(["", set].contains(&host.psql(role).as_str()), "{}", host.psql(role));
    });
    none_of("holder");

    let queue = || {
        none_of("holder");
        none_of("waiter");
        host.session("holder", "BEGIN; LOCK TABLE t");
        host.session("waiter", "SELECT * FROM t");
    };
    fixing("pg.terminate-idle", &[], &queue, &|| {
        assert_ne!(host.backend("waiter"), "", "another session than the root was terminated");
    });
    none_of("holder");
    none_of("waiter");

    let long = || {
        none_of("long");
        host.spawn(
            "bash",
            &["-c", "exec psql -q -d 'host=/run/postgresql user=app dbname=shop application_name=long' -c 'SELECT pg_sleep(600)' -c '\\! sleep 600'"],
        );
        eventually(30, "it runs", || (!host.backend("long").is_empty()).then_some(()));
    };
    fixing("pg.cancel", &[], &long, &|| assert_ne!(host.backend("long"), "", "the connection was closed"));
}

#[test]
fn killed_in_every_call_of_nginx_reload() {
    let Some(host) = Host::with_servers(&["nginx", "curl", "strace"]) else { return };
    host.nginx("server { listen 80; location / { return 200 one; } }");
    let master = host.sh("cat /run/nginx.pid");
    let again = || {
        eventually(30, "its configuration is newer than its start", || {
            host.sh("touch /etc/nginx/conf.d/site.conf");
            host.run_runbooks(&["nginx"]).has("nginx.config-not-loaded nginx:127.0.0.1:80").then_some(())
        });
    };
    let whole =
        || assert_eq!((host.sh("cat /run/nginx.pid"), host.curl("http://127.0.0.1/")), (master.clone(), "one 200".to_owned()));
    let args = ["fix", "nginx.reload", "127.0.0.1:80", "--yes"];
    Fixing { host: &host, args: &args, again: &again, whole: &whole }.killed_everywhere();
}

/// The reload of a Prometheus with these options.
fn prometheus(flags: &[&str]) {
    if !installed(&["strace"]) {
        return;
    }
    let Some(host) = Host::with_monitoring() else { return };
    host.configure("[runbooks.monitoring]\nstarting_s = 0\n");
    host.service("app1", "ok");
    host.alertmanager("alertmanager");
    host.prometheus_with("prometheus", &stack("app1:8080"), RULES, &[], flags);
    host.until_scraped("prometheus", "app1:8080", "up");
    let again = || {
        host.configure_prometheus("prometheus", "nonsense", RULES);
        host.docker(&["kill", "-s", "HUP", "prometheus"]);
        eventually(30, "the reload has failed", || {
            host.run_runbooks(&["monitoring"]).has("monitoring.prometheus prometheus:prometheus").then_some(())
        });
        host.configure_prometheus("prometheus", &stack("app1:8080"), RULES);
    };
    let ready = format!("http://{}:9090/-/ready", host.address("prometheus"));
    let whole = || assert!(host.curl(&ready).ends_with(" 200"), "{}", host.curl(&ready));
    let args = ["fix", "prom.reload", "prometheus", "--yes"];
    Fixing { host: &host, args: &args, again: &again, whole: &whole }.killed_everywhere();
}

#[test]
fn killed_in_every_call_of_a_prometheus_reload_over_http() {
    prometheus(&["--web.enable-lifecycle"]);
}

#[test]
fn killed_in_every_call_of_a_prometheus_reload_by_signal() {
    prometheus(&[]);
}

#[test]
fn killed_in_every_call_of_the_mss_rules() {
    if !installed(&["strace"]) {
        return;
    }
    let Some(host) = Host::with_wires(1500) else { return };
    host.narrow("10.7.3.0/24", 1400);
    let peer = format!("http://{PEER}:8080/big");
    let args = ["fix", "mtu.clamp", "h1", "--endpoint", &peer, "--yes"];
    host.opsctl(&args).exits(0);
    let after = host.ruleset();
    // each rule is complete and exists once
    let whole = || {
        let now = host.ruleset();
        let rules: Vec<&str> = now.lines().filter(|l| l.contains("opsctl-mss")).collect();
        assert!(rules.iter().all(|l| after.contains(l)), "{now}");
        assert_eq!(rules.iter().collect::<std::collections::BTreeSet<_>>().len(), rules.len(), "{now}");
    };
    let again = || _ = host.sh("iptables -t mangle -F");
    Fixing { host: &host, args: &args, again: &again, whole: &whole }.killed_everywhere();
    host.opsctl(&args);
    assert_eq!(host.ruleset(), after, "the incomplete action was not completed manually");
}

#[test]
fn killed_in_every_call_of_a_custom_fix() {
    let Some(host) = Host::with_servers(&["strace"]) else { return };
    host.configure("");
    let directory = host.path("runbooks.d");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(
        directory.join("shop.toml"),
        "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"flag\"\ntitle = \"it is open\"\n\
         file = { path = \"/mnt/open\", exists = true }\n[check.fix]\nname = \"open\"\ntitle = \"open it\"\n\
         argv = [\"/mnt/own/unlock\"]\nrisk = \"R1\"\n",
    )
    .unwrap();
    host.sh("mkdir /mnt/own; printf '#!/bin/sh\\necho x >> /mnt/runs\\ntouch /mnt/open\\n' > /mnt/own/unlock; chmod 755 /mnt/own/unlock");
    let again = || _ = host.sh("rm -f /mnt/open /mnt/runs");
    let whole =
        || assert!(host.sh("cat /mnt/runs 2> /dev/null | wc -l").parse::<u32>().unwrap() < 2, "the program was run twice");
    let args = ["fix", "shop.open", "shop", "--yes"];
    Fixing { host: &host, args: &args, again: &again, whole: &whole }.killed_everywhere();
}
