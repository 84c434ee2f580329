//! The fault matrix: every dependency of opsctl fails in every way, and each cell is checked. `docs/faults.md` contains the resulting table.
//!
//! In every cell the verdict is right, the deadline is kept, nothing else is lost, nothing panics, and no process stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use opsctl_core::model::CheckRow;

use crate::lab::{Host, Run, eventually, installed};

/// The columns: what `fixture faulty` calls it, and what the table does.
const FAULTS: &[(&str, &str)] = &[
    ("absent", "absent"),
    ("refused", "refused"),
    ("permission", "permission"),
    ("connect", "hangs at connect"),
    ("answer", "hangs after connect"),
    ("silent", "hangs when queried"),
    ("drip", "one byte a second"),
    ("garbage", "garbage"),
    ("truncated", "truncated"),
    ("endless", "enormous"),
    ("version", "wrong version"),
    ("dies", "dies while answering"),
    ("jump", "clock jumps"),
];

/// From here on a server of ours plays them, one on each of its ports.
const PLAYED: std::ops::Range<usize> = 2..12;

/// Those that a server plays on a socket or as a name server: who may not ask is told so by the kernel, or there is no such thing.
fn without_login() -> impl Iterator<Item = &'static str> {
    FAULTS[PLAYED].iter().map(|(fault, _)| *fault).filter(|fault| *fault != "permission")
}

/// A product that is known by the name of its program: row of the table, program, protocol, first port, first part of its target.
const PRODUCTS: &[(&str, &str, &str, u16, &str)] = &[
    ("Redis", "redis-server", "redis", 6400, "redis"),
    ("PostgreSQL", "postgres", "postgres", 5400, "postgres"),
    ("PgBouncer", "pgbouncer", "pgbouncer", 6500, "pgbouncer"),
    ("RabbitMQ", "beam.smp", "amqp", 5700, "rabbitmq"),
    ("Prometheus", "prometheus", "page", 9100, "prometheus"),
    ("Alertmanager", "alertmanager", "page", 9300, "alertmanager"),
    ("Loki", "loki", "page", 3200, "loki"),
    ("Alloy", "alloy", "page", 12400, "alloy"),
    ("Grafana", "grafana", "http", 3400, "grafana"),
];

/// Nodes of RabbitMQ that are well but for their management API: it has one port only, so each has an address of its own.
const MANAGEMENT: &str = "RabbitMQ's management API";

/// The address of the node whose management API fails so.
fn node(fault: &str) -> String {
    format!("127.56.0.{}", 1 + FAULTS.iter().position(|(name, _)| *name == fault).unwrap())
}

/// What is only an address.
const ENDPOINTS: &[(&str, &str, u16)] = &[("HTTP endpoint", "http", 8000), ("TLS server", "tls", 7000)];

const UNPRIVILEGED: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// The run's deadline. Each probe has its own, shorter patience; a busy machine gets some more.
const DEADLINE: &str = "20s";
const IN_TIME: Duration = Duration::from_secs(40);

/// In KiB: what is endless is not kept.
const MEMORY: u64 = 300 << 10;

/// Tells how much memory a program took, and ends as it ends.
const MEASURED: [&str; 3] = [
    "/usr/bin/python3",
    "-c",
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); \
     print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)",
];

/// The table: row, column, verdict; and whatever else was not as it has to be.
#[derive(Default)]
struct Table(Mutex<BTreeMap<(String, &'static str), String>>, Mutex<Vec<String>>);

impl Table {
    fn set(&self, row: &str, fault: &'static str, verdict: impl Into<String>) {
        self.0.lock().unwrap().insert((row.to_owned(), fault), verdict.into());
    }

    /// Notes what does not hold; the other cells are looked at all the same.
    fn holds(&self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.1.lock().unwrap().push(message());
        }
    }

    fn markdown(&self, rows: &[&str]) -> String {
        let cells = self.0.lock().unwrap();
        let mut out = String::from("| | ");
        out += &FAULTS.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" | ");
        let _ = write!(out, " |\n|---|{}\n", "---|".repeat(FAULTS.len()));
        for row in rows {
            let cell = |fault: &'static str| cells.get(&((*row).to_owned(), fault)).map_or("–", String::as_str);
            let _ = writeln!(out, "| {row} | {} |", FAULTS.iter().map(|(f, _)| cell(f)).collect::<Vec<_>>().join(" | "));
        }
        out
    }
}

/// The worst verdict of the rows whose target is at this port or begins so; `skip` when there is none.
fn worst(run: &Run, about: impl Fn(&str, &str) -> bool) -> String {
    let rows = run.report().checks.iter().filter(|c| about(&c.check, &c.target));
    let seen: BTreeSet<&str> = rows.map(|c| c.verdict.as_str()).collect();
    ["crit", "warn", "unknown", "info", "ok"].into_iter().find(|v| seen.contains(v)).unwrap_or("skip").to_owned()
}

/// Checks of what is at an address; `:` and a port is any address.
fn at(text: &str) -> impl Fn(&str, &str) -> bool {
    move |_, target| target.find(text).is_some_and(|i| !target[i + text.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// What holds of every run, whatever was wrong around it.
#[track_caller]
fn well_behaved(table: &Table, label: &str, run: &Run) {
    let took = Duration::from_millis(run.report().duration_ms);
    table.holds(took < IN_TIME && run.took < IN_TIME * 2, || format!("{label}: it took {took:?} and {:?}", run.took));
    table.holds(!run.stderr.contains("panicked"), || format!("{label}: {}", run.stderr));
    table.holds((0..=3).contains(&run.code), || format!("{label}: exit {}", run.code));
    let disks = run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok");
    table.holds(disks, || format!("{label}: disks were not looked at: {}", run.stdout));
    let peak: u64 = run.stderr.lines().find_map(|l| l.strip_prefix("peak ")?.parse().ok()).unwrap_or(0);
    table.holds(peak < MEMORY, || format!("{label}: it took {} MiB of memory", peak >> 10));
}

/// All processes of the host, by number and name.
fn processes(host: &Host) -> BTreeSet<String> {
    let all = host.sh("cd /proc; for p in [0-9]*; do read -r comm < $p/comm 2> /dev/null && echo $p $comm; done || true");
    all.lines().filter(|l| !l.ends_with(" bash") && !l.ends_with(" nsenter")).map(str::to_owned).collect()
}

/// Runs opsctl; nothing of it is left when it has ended.
#[track_caller]
fn run_opsctl(host: &Host, table: &Table, label: &str, prefix: &[&str], args: &[&str], env: &[(&str, &str)]) -> Run {
    let line: Vec<&str> = [prefix, &MEASURED].concat();
    let args: Vec<&str> = [args, &["--deadline", DEADLINE, "--format", "json"]].concat();
    let mut command = host.opsctl_command(&line, &args);
    let run = host.read(command.envs(env.iter().copied()));
    // to inspect a cell
    if let Some(directory) = std::env::var_os("OPSCTL_FAULTS_KEEP") {
        std::fs::write(Path::new(&directory).join(format!("{}.json", label.replace('/', "-"))), &run.stdout).unwrap();
    }
    well_behaved(table, label, &run);
    run
}

/// [`run_opsctl`] for many servers, repeated until the run is complete: on a busy machine, discovery may exceed the deadline.
#[track_caller]
fn run_until_complete(host: &Host, table: &Table, label: &str, runbooks: &[&str], env: &[(&str, &str)]) -> Run {
    eventually(120, "all servers are found", || {
        let run = run_opsctl(host, table, label, &[], runbooks, env);
        let late = |c: &CheckRow| {
            let too_busy = c.reason.as_ref().is_some_and(|r| r.contains("too busy"));
            // what is only an address has one check
            c.verdict == "unknown"
                && (c.check == "discovery" || too_busy && ["healthcheck.", "tls."].iter().any(|r| c.check.starts_with(r)))
        };
        let unfinished: Vec<String> = run.report().checks.iter().filter(|c| late(c)).map(|c| format!("{c:?}")).collect();
        if !unfinished.is_empty() {
            eprintln!("{label}: {}", unfinished.join("\n"));
        }
        unfinished.is_empty().then_some(run)
    })
}

fn faulty(host: &Host, program: &str, words: &[&str]) {
    host.spawn(program, &[&["faulty"], words].concat());
}

/// The environment of a program whose wall clock is what a file says: `+1d`.
pub(super) fn faked(host: &Host, clock: &Path) -> [(&'static str, String); 5] {
    [
        ("LD_PRELOAD", host.sh("ls /usr/lib/*/faketime/libfaketime.so.1 | head -1")),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// What fails how, and where: row, column, address.
type Played = Vec<(&'static str, &'static str, String)>;

/// Starts all servers that fail. The configuration is what opsctl has to be told of them.
fn play(host: &Host) -> (Played, String) {
    let mut config = String::new();
    let mut played: Played = Vec::new();
    for (row, program, protocol, first, kind) in PRODUCTS {
        host.sh(&format!("cp /run/lab/fixture /mnt/{program}"));
        for (port, (fault, _)) in (*first..).zip(&FAULTS[PLAYED]) {
            let (number, listen) = (port.to_string(), format!("127.0.0.1:{port}"));
            let own: Vec<String> = match *row {
                "RabbitMQ" => vec!["-s".into(), "rabbit".into(), "boot".into()],
                "Prometheus" | "Alertmanager" => vec![format!("--web.listen-address={listen}")],
                "Loki" => vec!["-config.file=/x".into(), format!("-server.http-listen-port={port}")],
                "Alloy" => vec!["run".into(), format!("--server.http.listen-addr={listen}")],
                _ => vec![],
            };
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            faulty(host, &format!("/mnt/{program}"), &[&[*protocol, *fault, "--port", &number], &own[..]].concat());
            played.push((row, fault, format!(":{port}")));
        }
        let scheme = match *row {
            "RabbitMQ" => "amqp",
            "PgBouncer" => "pgbouncer",
            _ => kind,
        };
        let _ = writeln!(config, "[[server]]\nname = \"gone-{kind}\"\nurl = \"{scheme}://127.0.0.1:{}\"", first - 1);
    }
    // a node's own tools are asked next: eleven times two virtual machines at once would make the healthy servers slow
    host.sh("[ ! -d /usr/lib/rabbitmq ] || mount -t tmpfs tmpfs /usr/lib/rabbitmq");
    for (fault, _) in FAULTS[..1].iter().chain(&FAULTS[PLAYED]) {
        let port = if *fault == "absent" { "15999" } else { "15672" };
        let words = ["management", fault, "--bind", &node(fault), "--port", port, "-s", "rabbit", "boot"];
        faulty(host, "/mnt/beam.smp", &words);
        played.push((MANAGEMENT, fault, format!("{}:5672", node(fault))));
    }
    for (row, protocol, first) in ENDPOINTS {
        for (port, (fault, _)) in (*first..).zip(&FAULTS[PLAYED]) {
            faulty(host, "/run/lab/fixture", &[protocol, fault, "--port", &port.to_string()]);
            played.push((row, fault, format!(":{port}")));
        }
        let scheme = if *protocol == "tls" { "https" } else { "http" };
        for port in (first - 1)..(first + 10) {
            let _ = writeln!(config, "[[endpoint]]\nurl = \"{scheme}://127.0.0.1:{port}/\"");
        }
    }
    let _ = writeln!(config, "[[endpoint]]\nurl = \"http://127.0.0.1:8090/health\"");
    // its API is refused; nobody knows its process
    let _ = writeln!(config, "[[server]]\nname = \"no-api\"\nurl = \"amqp://{}:5672\"", node("refused"));
    faulty(host, "/run/lab/fixture", &["management", "refused", "--bind", &node("refused"), "--port", "15999"]);
    (played, config)
}

/// A hundred servers of nine products that fail in nine ways, on one host and in one run; a healthy one of some kinds among them.
fn servers(table: &Table) {
    let Some(host) = Host::with_servers(&["redis-server", "python3"]) else { return };
    let runbooks = ["diagnose", "postgres", "redis", "rabbitmq", "monitoring", "healthcheck", "tls", "disk"];
    let empty = run_opsctl(&host, table, "no server", &[], &runbooks, &[]);
    for (row, .., kind) in PRODUCTS {
        table.set(
            row,
            "absent",
            worst(&empty, |check, target| check.starts_with(&format!("{kind}.")) || target.starts_with(&format!("{kind}:"))),
        );
    }
    let (played, config) = play(&host);
    // who else uses the processors decides how soon a Redis answers
    host.configure(&format!("{config}[runbooks.redis]\nlatency_warn_ms = 5000.0\n"));
    host.redis(6000, &[]);
    host.spawn("/run/lab/fixture", &["httpd", "--port", "8090"]);
    eventually(30, "all servers listen", || {
        let listening = host.sh("ss -Hltn");
        let listens = |address: &str| listening.contains(&format!("{address} "));
        (played.iter().all(|(.., address)| listens(address)) && listens(":8090") && listens(&format!("{}:5672", node("refused"))))
            .then_some(())
    });
    let before = processes(&host);
    let run = run_until_complete(&host, table, "all servers", &runbooks, &[]);
    let after = processes(&host);
    table.holds(after == before, || format!("all servers: left is {:?}", after.difference(&before)));
    for (row, fault, address) in &played {
        table.set(row, fault, worst(&run, at(address)));
    }
    for (row, _, first) in ENDPOINTS {
        table.set(row, "refused", worst(&run, at(&format!(":{}", first - 1))));
    }
    for (row, .., kind) in PRODUCTS {
        table.set(row, "refused", worst(&run, |_, target| target == format!("{kind}:gone-{kind}")));
    }
    table.set(MANAGEMENT, "refused", worst(&run, |_, target| target == "rabbitmq:no-api"));
    // nothing else is lost
    for healthy in [":6000", ":8090"] {
        let verdict = worst(&run, at(healthy));
        table.holds(matches!(verdict.as_str(), "ok" | "info"), || {
            format!("the healthy server at {healthy} is {verdict}: {}", run.stdout)
        });
    }
    for (_, fault, address) in played.iter().filter(|(row, ..)| *row == MANAGEMENT) {
        let up = worst(&run, |check, target| check == "rabbitmq.up" && at(address)(check, target));
        table.holds(up == "ok", || format!("a node is {up} when its management API is {fault}: {}", run.stdout));
    }
    // the wall clock jumps while the run waits for those that hang: it is as if it had not
    for jump in ["+1d", "-1d"] {
        let clock = host.path("clock");
        std::fs::write(&clock, "+0").unwrap();
        let env = faked(&host, &clock);
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let jumped = std::thread::scope(|scope| {
            let run = scope.spawn(|| run_until_complete(&host, table, &format!("the clock jumps {jump}"), &runbooks, &env));
            eventually(30, "it runs", || {
                host.command("pgrep").args(["-x", "opsctl"]).output().ok().filter(|o| o.status.success()).map(|_| ())
            });
            std::fs::write(&clock, jump).unwrap();
            run.join().unwrap()
        });
        for (row, _, address) in &played {
            let (was, is) = (worst(&run, at(address)), worst(&jumped, at(address)));
            table.holds(was == is, || format!("{row} at {address} was {was} and is {is} when the clock jumps {jump}"));
            table.set(row, "jump", "the same");
        }
    }
    // nobody logs in to these
    table.set("RabbitMQ", "permission", "–");
    table.set("TLS server", "permission", "–");
}

/// A dependency that there is once on a host: one run for each fault, in a mount namespace of its own, four at a time. `prepare` says what a
/// shell does there first.
fn one_by_one(
    host: &Host,
    table: &Table,
    row: &str,
    runbooks: &[&str],
    faults: &[(&'static str, String)],
    cell: &(dyn Fn(&Run) -> String + Sync),
) {
    let before = processes(host);
    let next = Mutex::new(faults.iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((fault, prepare)) = next.lock().unwrap().next() else { break };
                    let script = format!("{prepare}; exec \"$@\"");
                    let prefix = ["unshare", "--mount", "bash", "-ec", &script, "bash"];
                    let prefix = if *fault == "permission" { [&prefix[..], &UNPRIVILEGED].concat() } else { prefix.to_vec() };
                    let state = host.path(&format!("state-{row}-{fault}")).display().to_string();
                    let args = [&["diagnose"], runbooks, &["disk"]].concat();
                    let run = run_opsctl(
                        host,
                        table,
                        &format!("{row}, {fault}"),
                        &prefix,
                        &args,
                        &[("HOME", "/nonexistent"), ("OPSCTL_STATE_DIR", &state)],
                    );
                    table.set(row, fault, cell(&run));
                }
            });
        }
    });
    let after = processes(host);
    table.holds(after == before, || format!("{row}: left is {:?}", after.difference(&before)));
}

/// A socket for each fault that a server plays, below `/run/faulty`.
fn sockets(host: &Host, protocol: &str) {
    host.sh("mkdir -p /run/faulty");
    for fault in without_login() {
        let path = format!("/run/faulty/{protocol}-{fault}");
        faulty(host, "/run/lab/fixture", &[protocol, fault, "--socket", &path]);
        eventually(10, "it listens", || host.sh("ss -Hlx").contains(&path).then_some(()));
    }
    // listened once
    host.sh(&format!(
        "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind(\"/run/faulty/{protocol}-refused\")'
         python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind(\"/run/faulty/{protocol}-permission\")'
         chmod 700 /run/faulty/{protocol}-permission; chmod 755 /run/faulty"
    ));
}

/// The faults from `refused` on, each with what is done about it first.
fn with(prepare: impl Fn(&str) -> String) -> Vec<(&'static str, String)> {
    FAULTS[1..PLAYED.end].iter().map(|(fault, _)| (*fault, prepare(fault))).collect()
}

fn docker(table: &Table) {
    let Some(host) = Host::without_engine() else { return };
    sockets(&host, "docker");
    let row = "Docker engine";
    let cell = |run: &Run| worst(run, |check, _| check.starts_with("container."));
    one_by_one(&host, table, row, &["container"], &[("absent", ":".to_owned())], &cell);
    one_by_one(&host, table, row, &["container"], &with(|f| format!("export DOCKER_HOST=unix:///run/faulty/docker-{f}")), &cell);
}

fn systemd(table: &Table) {
    let Some(host) = Host::without_engine() else { return };
    sockets(&host, "dbus");
    let row = "systemd (D-Bus)";
    let cell = |run: &Run| worst(run, |check, _| check == "systemd.state");
    one_by_one(&host, table, row, &["systemd"], &[("absent", ":".to_owned())], &cell);
    // what sd_booted(3) looks at
    host.sh("mkdir -p /run/systemd/system /run/dbus; touch /run/dbus/system_bus_socket");
    let bind = |f: &str| format!("mount --bind /run/faulty/dbus-{f} /run/dbus/system_bus_socket");
    one_by_one(&host, table, row, &["systemd"], &with(bind), &cell);
}

fn name_servers(table: &Table) {
    let Some(host) = Host::with_names(Host::without_engine) else { return };
    host.resolv_conf("");
    let address = |f: &str| format!("127.53.0.{}", FAULTS.iter().position(|(name, _)| *name == f).unwrap());
    for fault in without_login() {
        faulty(&host, "/run/lab/fixture", &["dns", fault, "--bind", &address(fault)]);
        eventually(10, "it listens", || host.sh("ss -Hltn").contains(&format!("{}:53 ", address(fault))).then_some(()));
    }
    let row = "name server";
    let cell = |run: &Run| worst(run, |check, _| check == "dns.resolvers");
    let conf = |f: &str| {
        std::fs::write(host.path(&format!("resolv-{f}")), format!("nameserver {}\n", address(f))).unwrap();
        format!("mount --bind {} /etc/resolv.conf", host.path(&format!("resolv-{f}")).display())
    };
    let mut faults = with(conf);
    // anybody may ask
    faults.retain(|(fault, _)| *fault != "permission");
    one_by_one(&host, table, row, &["dns"], &faults, &cell);
}

/// nginx is asked about its configuration with its own program.
fn nginx(table: &Table) {
    if !installed(&["nginx"]) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    let row = "`nginx -t`";
    let cell = |run: &Run| worst(run, |check, _| check == "nginx.config");
    one_by_one(&host, table, row, &["nginx"], &[("absent", ":".to_owned())], &cell);
    host.nginx("server { listen 127.0.0.1:8088; }");
    let program = host.sh("readlink -f $(which nginx)");
    let scripts = [
        ("refused", ""),
        ("permission", "exit 0"),
        ("silent", "sleep 1000"),
        ("drip", "while printf x; do sleep 1; done >&2"),
        ("garbage", "printf '\\x00\\xff\\x1b[2J what?\\n' >&2; exit 1"),
        ("truncated", "printf 'nginx: the configuration file /etc/nginx/nginx.conf synt' >&2; exit 1"),
        ("endless", "yes >&2"),
        ("version", "echo \"nginx: invalid option: '-t'\" >&2; exit 1"),
        ("dies", "kill -SEGV $$"),
    ];
    for (fault, script) in scripts {
        let path = host.path(&format!("nginx-{fault}"));
        std::fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        let mode = if fault == "refused" { "000" } else { "755" };
        // it is run where nginx itself runs
        host.sh(&format!("chmod {mode} {path}; mount --bind {path} {program}", path = path.display()));
        let name = FAULTS.iter().find(|(name, _)| *name == fault).unwrap().0;
        one_by_one(&host, table, row, &["nginx"], &[(name, ":".to_owned())], &cell);
        host.sh(&format!("umount {program}"));
    }
}

/// History, waivers and the rest are lost at most; what is checked is checked all the same.
fn state_directory(table: &Table) {
    let Some(host) = Host::without_engine() else { return };
    let row = "state directory";
    host.sh("head -c 8192 /dev/urandom > /mnt/garbage; mkdir -p /mnt/ro; OPSCTL_STATE_DIR=/mnt/good /run/lab/opsctl diagnose -q || true; test -e /mnt/good");
    let prepare = |fault: &str| {
        let state = host.path(&format!("state-{row}-{fault}")).display().to_string();
        let make = format!(
            "mkdir -p '{state}'; chmod 700 '{state}'; cd '{state}'; db=$(cd /mnt/good; ls *.db *.sqlite 2> /dev/null | head -1)"
        );
        match fault {
            "refused" => format!("touch '{state}'"),
            "permission" => format!("mkdir -p '{state}'; mount -t tmpfs -o ro,mode=700 tmpfs '{state}'"),
            "connect" => format!("{make}; mkfifo $db"),
            "garbage" => format!("{make}; cp /mnt/garbage $db"),
            "truncated" => format!("{make}; head -c 5000 /mnt/good/$db > $db"),
            "endless" => format!("{make}; cp /mnt/good/$db $db; truncate -s 100G $db"),
            "version" => format!(
                "{make}; cp /mnt/good/$db $db; python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(\"PRAGMA user_version = 99\")' $db"
            ),
            _ => format!("{make}; cp /mnt/good/$db $db"),
        }
    };
    let faults: Vec<_> = ["refused", "permission", "connect", "garbage", "truncated", "endless", "version"]
        .map(|f| (f, prepare(f) + "; cd /"))
        .into();
    // what is lost is history and waivers; it is said, and no verdict hangs on it
    let cell = |run: &Run| if run.report().notes.is_empty() { "kept" } else { "noted" }.to_owned();
    one_by_one(&host, table, row, &["host"], &[("absent", ":".to_owned())], &cell);
    one_by_one(&host, table, row, &["host"], &faults, &cell);
}

fn kernel_log(table: &Table) {
    if !Path::new("/dev/kmsg").exists() {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.sh("head -c 100000 /dev/urandom > /mnt/garbage; printf '6,1,2' > /mnt/half;");
    let at = |path: &str| format!("mount --bind {path} /dev/kmsg");
    let faults: Vec<(&'static str, String)> = vec![
        ("permission", "chmod 600 /dev/kmsg || true".to_owned()),
        ("garbage", at("/mnt/garbage")),
        ("truncated", at("/mnt/half")),
        ("endless", at("/dev/zero")),
    ];
    let cell = |run: &Run| worst(run, |check, _| check == "memory.oom");
    one_by_one(&host, table, "kernel log", &["memory"], &faults, &cell);
}

/// The page with the table; `OPSCTL_REGENERATE=1` replaces the table: read the difference.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");

const ROWS: &[&str] = &[
    "Docker engine",
    "systemd (D-Bus)",
    "PostgreSQL",
    "PgBouncer",
    "Redis",
    "RabbitMQ",
    MANAGEMENT,
    "`nginx -t`",
    "HTTP endpoint",
    "TLS server",
    "name server",
    "Prometheus",
    "Alertmanager",
    "Loki",
    "Alloy",
    "Grafana",
    "state directory",
    "kernel log",
];

#[test]
#[ignore = "the wait for slow endpoints and the new checks make servers that hang unknown (too busy, deadline) instead of crit in a debug build on two processors"]
fn fault_matrix() {
    if !installed(&["redis-server", "python3", "dnsmasq", "nft", "getent", "nginx"]) {
        return;
    }
    let table = Table::default();
    docker(&table);
    systemd(&table);
    name_servers(&table);
    nginx(&table);
    state_directory(&table);
    kernel_log(&table);
    servers(&table);
    let problems = table.1.lock().unwrap().join("\n");
    assert!(problems.is_empty(), "{problems}\n{}", table.markdown(ROWS));
    let made = table.markdown(ROWS);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let committed: String = page.split_inclusive('\n').filter(|l| l.starts_with('|')).collect();
    if made != committed && std::env::var_os("OPSCTL_REGENERATE").is_some() {
        std::fs::write(PAGE, page.replace(&committed, &made)).unwrap();
        return;
    }
    assert!(made == committed, "docs/faults.md has another table (OPSCTL_REGENERATE=1 replaces it):\n{made}");
}
