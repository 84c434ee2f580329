//! Promise 6: every run ends within one second after its deadline, in bounded memory and with the results so far, independent of the behaviour
//! of targets, filesystems and the engine.

use std::time::Duration;

use opsctl_core::model::{CheckRow, Severity};

use crate::lab::{Host, MACHINE, Machine, Rootfs, Run, eventually, installed};

use super::scene::USER;
use super::{Scene, UID, quoted, rows, summary};

/// The deadline of every run here, and the limit of its duration.
const DEADLINE: [&str; 2] = ["--deadline", "3s"];
const LIMIT: Duration = Duration::from_secs(4);

/// Overhead of the lab: entering the host's namespaces, and three other tests on two processors.
const LAB_OVERHEAD: Duration = Duration::from_millis(700);

/// A run is killed after this time.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs a diagnosis that must end in time, with a report that contains `words` and an exit code other than 0.
#[track_caller]
fn in_time(host: &Host, runbooks: &[&str], words: &[&str]) -> Run {
    let run = ends_in_time(host, &[&["diagnose"], runbooks, &["--format", "json"]].concat(), &DEADLINE);
    assert!((1..=3).contains(&run.code), "exit {}: {}", run.code, summary(&run));
    let output = format!("{}\n{}", summary(&run), run.stderr).to_lowercase();
    for word in words {
        assert!(output.contains(&word.to_lowercase()), "{word} is missing in:\n{output}");
    }
    run
}

/// Runs a command that must end in time, with any exit code and a report on standard output.
#[track_caller]
fn ends_in_time(host: &Host, words: &[&str], deadline: &[&str]) -> Run {
    let mut command = host.opsctl_command(&[], &[words, deadline].concat());
    let Some(run) = host.read_within(&mut command, KILL_TIMEOUT) else {
        panic!("{words:?} has not ended after {KILL_TIMEOUT:?}")
    };
    assert!(run.took < LIMIT + LAB_OVERHEAD, "{words:?} took {:?}: exit {}\n{}", run.took, run.code, summary(&run));
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(!run.stdout.is_empty(), "{words:?} printed nothing: exit {}\n{}", run.code, run.stderr);
    run
}

/// A container with a FIFO as `/etc/hostname`.
#[test]
fn fifo_in_container_root_respects_deadline() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["beam.smp"]);
    scene.sh("mkfifo /mnt/fifo");
    let options = ["-v", "/mnt/fifo:/etc/hostname"];
    scene.hostile("mq", &options, "beam.smp", "beam.smp", "rabbitmq", &["--port", "5672", "--", "-s", "rabbit", "boot"]);
    in_time(&scene, &["rabbitmq"], &[]);
}

#[test]
fn device_as_hostname_of_a_container_respects_deadline() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["beam.smp"]);
    let options = ["-v", "/dev/zero:/etc/hostname"];
    scene.hostile("mq", &options, "beam.smp", "beam.smp", "rabbitmq", &["--port", "5672", "--", "-s", "rabbit", "boot"]);
    // an endless file: a process that reads it completely exceeds this limit
    let limit = "ulimit -v 2000000; exec \"$@\"";
    let words = [&["diagnose", "rabbitmq", "--format", "json"], &DEADLINE[..]].concat();
    let Some(run) = scene.read_within(&mut scene.opsctl_command(&["bash", "-c", limit, "bash"], &words), KILL_TIMEOUT) else {
        panic!("it has not ended after {KILL_TIMEOUT:?}")
    };
    assert!(
        run.took < LIMIT + LAB_OVERHEAD && (0..=3).contains(&run.code),
        "took {:?}, exit {}: {}",
        run.took,
        run.code,
        run.stderr
    );
    run.report();
}

#[test]
fn fifo_in_place_of_every_file_of_a_container_respects_deadline() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["nginx", "redis-server", "postgres", "loki", "prometheus", "python3", "beam.smp"]);
    let files = ["resolv.conf", "hosts", "hostname", "nginx.conf", "redis.conf", "loki.yml"];
    scene.sh(&format!("mkdir /mnt/fifos; cd /mnt/fifos; mkfifo {}", files.join(" ")));
    // these three are mounts of the engine, the others are in the layer of the container
    let etc = ["resolv.conf", "hosts", "hostname"].map(|f| format!("/mnt/fifos/{f}:/etc/{f}"));
    let mut options: Vec<&str> = etc.iter().flat_map(|mount| ["-v", mount]).collect();
    options.extend(["-v", "/mnt/fifos:/fifos", "-v", "/mnt/fifos:/etc/redis"]);
    scene.hostile("web", &options, "nginx", "nginx: master process nginx -c /fifos/nginx.conf", "http", &["--port", "8080"]);
    scene.hostile("cache", &options, "redis-server", "redis-server *:6379", "redis", &["--port", "6379"]);
    scene.hostile("db", &options, "postgres", "postgres", "postgres", &["--port", "5432"]);
    let args = ["--port", "3100", "--page", "/ready=200:ready", "--", "-config.file=/fifos/loki.yml"];
    scene.hostile("loki", &options, "loki", "loki", "http", &args);
    let args = ["--port", "9090", "--page", "/-/ready=200:ready", "--", "--config.file=/fifos/loki.yml"];
    scene.hostile("prom", &options, "prometheus", "prometheus", "http", &args);
    let beat = ["--", "-m", "celery", "-A", "x", "beat", "--schedule=/fifos/nginx.conf"];
    scene.hostile("beat", &options, "python3", "python3", "http", &beat);
    for name in ["web", "cache", "db", "loki", "prom", "beat"] {
        scene.docker(&[
            "exec",
            name,
            "bash",
            "-c",
            "cd /etc; for f in passwd group nsswitch.conf localtime; do rm -f $f; mkfifo $f; done",
        ]);
    }
    // each of them is examined, and so is the host
    let run =
        in_time(&scene, &["nginx", "redis", "postgres", "monitoring", "celery", "dns", "container", "healthcheck", "disk"], &[]);
    for name in ["web", "cache", "db", "loki", "prom"] {
        assert!(rows(&run, name).next().is_some(), "{name} is missing: {}", summary(&run));
    }
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"), "{}", summary(&run));
}

/// Starts a FUSE server (`fuse.py`) of root with `allow_other` at `/mnt/dead`.
fn dead_fuse(scene: &Scene, mode: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/fuse.py");
    scene.sh("mkdir -p /mnt/dev /mnt/dead; [ -e /mnt/dev/fuse ] || mknod -m 666 /mnt/dev/fuse c 10 229");
    scene.spawn("/usr/bin/python3", &[script, "/mnt/dev/fuse", "/mnt/dead", mode, "allow_other"]);
    scene.wait_for(&format!("[ -e /mnt/loot/ready.{mode} ]"));
}

/// Starts a Loki of root with its configuration on an unresponsive filesystem.
fn loki_on(scene: &Scene, mode: &str) {
    dead_fuse(scene, mode);
    let program = scene.program_file("loki");
    let (variable, _) = super::rogue("loki", "http", &["--port", "3100", "--page", "/ready=200:ready"]);
    let shown = ["-config.file=/mnt/dead/loki.yml", "-common.path-prefix=/mnt/dead/data"];
    scene.spawn("env", &[&[variable.as_str(), &program], &shown[..]].concat());
    scene.until_listening(3100);
}

#[test]
fn configuration_on_stopped_fuse_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    loki_on(&scene, "stopped");
    in_time(&scene, &["monitoring"], &["loki"]);
}

#[test]
fn configuration_on_fuse_without_replies_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    loki_on(&scene, "swallow");
    in_time(&scene, &["monitoring"], &["loki"]);
}

#[test]
fn report_record_and_respond_end_on_fuse_without_replies() {
    let Some(scene) = Scene::without_engine() else { return };
    loki_on(&scene, "swallow");
    let mut errors = Vec::new();
    std::fs::write(scene.path("alert.json"), r#"[{"labels":{"alertname":"LokiDown"},"startsAt":"2026-01-10T12:00:00Z"}]"#)
        .unwrap();
    let alert = scene.path("alert.json").display().to_string();
    let commands: [(&[&str], u64); 4] = [
        (&["report", "monitoring", "--always", "--deadline", "3s"], 4),
        (&["respond", &alert, "--deadline", "3s"], 4),
        // with the default deadline
        (&["record", "/mnt/recording.json", "monitoring"], 11),
        (&["fix"], 11),
    ];
    for (words, seconds) in commands {
        let ended = scene.read_within(&mut scene.opsctl_command(&[], words), KILL_TIMEOUT);
        match ended {
            Some(run) if run.took < Duration::from_secs(seconds) + LAB_OVERHEAD => {}
            Some(run) => errors.push(format!("{words:?} took {:?}", run.took)),
            None => errors.push(format!("{words:?} has not ended after {KILL_TIMEOUT:?}")),
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn dead_mount_of_the_host_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    dead_fuse(&scene, "stopped");
    // as with an unreachable NFS server: df hangs
    let run = in_time(&scene, &["disk", "cpu", "memory"], &["/mnt/dead"]);
    let others = run.report().checks.iter().filter(|c| c.check.starts_with("disk.") && c.verdict == "ok");
    assert!(others.count() > 0, "{}", summary(&run));
}

#[test]
fn fuse_of_a_user_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/fuse.py");
    scene.sh("mkdir -p /mnt/dev; mknod -m 666 /mnt/dev/fuse c 10 229");
    scene.as_user("mkdir ~mallory/fuse");
    // without `allow_other` only processes of the user can access it, and they block
    let before = format!(
        "/usr/bin/python3 {script} /mnt/dev/fuse ~mallory/fuse swallow & until [ -e /mnt/loot/ready.swallow ]; do sleep 0.05; done"
    );
    let program = scene.program("nginx").unshare("--user --map-root-user --mount").before(&before);
    program.title("nginx: master process nginx -c /mnt/home/mallory/fuse/nginx.conf").rogue("http", &["--port", "8080"]);
    scene.until_listening(8080);
    in_time(&scene, &["nginx", "tls", "disk"], &[":8080"]);
}

#[test]
fn process_with_a_locked_memory_map_hides_no_other_process() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/fuse.py");
    scene.sh("mkdir -p /mnt/dev; mknod -m 666 /mnt/dev/fuse c 10 229");
    scene.redis(6379, &[]);
    scene.as_user("mkdir ~mallory/fuse");
    // every reader of its command line blocks in the kernel: `ps` hangs
    scene.spawn_as_user(&format!(
        "exec unshare --user --map-root-user --mount /usr/bin/python3 {script} /mnt/dev/fuse ~mallory/fuse lock redis-server"
    ));
    scene.wait_for("[ -e /mnt/loot/ready.lock ]");
    let run = in_time(&scene, &["redis", "disk", "cpu", "memory", "celery"], &[]);
    let redis = rows(&run, "redis:127.0.0.1:6379").find(|row| row.check == "redis.up");
    assert!(redis.is_some_and(|row| row.verdict == "ok"), "the Redis of root is not examined: {}", summary(&run));
}

#[test]
fn stopped_engine_respects_deadline() {
    let Some(scene) = Scene::start() else { return };
    scene.image("app:1", Rootfs::Scratch, &[]);
    scene.run("app", &["app:1", "fixture", "wait-term"]);
    scene.sh("pkill -STOP -x dockerd");
    let run = in_time(&scene, &[], &["docker"]);
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"), "{}", summary(&run));
    scene.sh("pkill -CONT -x dockerd");
}

#[test]
fn slow_engine_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    for (fault, at) in [("slow-byte", "ping"), ("never", "list"), ("huge", "list"), ("never", "inspect")] {
        scene.sh("pkill -f '^/run/lab/fixture fake-docker' || true; rm -f /run/docker.sock");
        scene.spawn("/run/lab/fixture", &["fake-docker", "/run/docker.sock", fault, "--at", at]);
        scene.wait_for("[ -S /run/docker.sock ]");
        in_time(&scene, &["container", "disk"], &["docker"]);
    }
}

#[test]
fn stopped_systemd_respects_deadline() {
    let Some(machine) = Machine::boot() else { return };
    let pid = machine.host().inspect("machine", "{{.State.Pid}}");
    machine.host().sh(&format!("kill -STOP {pid}"));
    let run = machine.opsctl(&["diagnose", "systemd", "host", "disk", "cpu", "--format", "json", DEADLINE[0], DEADLINE[1]]);
    machine.host().sh(&format!("kill -CONT {pid}"));
    // the time includes `docker exec`
    assert!(run.took < LIMIT + LAB_OVERHEAD + LAB_OVERHEAD, "took {:?}: {}", run.took, summary(&run));
    assert!((1..=3).contains(&run.code), "exit {}: {}", run.code, summary(&run));
    assert!(summary(&run).contains("systemd"), "{}", summary(&run));
}

#[test]
fn stopped_name_server_respects_deadline() {
    let Some(host) = Host::with_names(Host::without_engine) else { return };
    let scene = Scene::on(host);
    scene.own_names();
    scene.configure("[[endpoint]]\nurl = \"http://db.corp:8080/health\"\n[[server]]\nname = \"db\"\nurl = \"postgres://app@db.corp:5432/shop\"\n");
    scene.sh("pkill -STOP -x dnsmasq");
    in_time(&scene, &["dns", "healthcheck", "postgres", "disk"], &["10.53.0.1"]);
}

#[test]
fn stopped_servers_respect_deadline() {
    if !installed(&["redis-server", "psql", "nginx", "prometheus", "prometheus-alertmanager", "pgbouncer"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.redis(6379, &[]);
    scene.postgres("");
    scene.nginx("server { listen 8080; location / { return 200 ok; } }");
    scene.spawn(
        "prometheus",
        &["--config.file=/dev/null", "--storage.tsdb.path=/mnt/prom", "--web.listen-address=127.0.0.1:9090"],
    );
    std::fs::write(scene.path("am.yml"), "route: {receiver: ops}\nreceivers: [{name: ops}]\n").unwrap();
    let file = format!("--config.file={}", scene.path("am.yml").display());
    scene.spawn(
        "prometheus-alertmanager",
        &[&file, "--storage.path=/mnt/am", "--web.listen-address=127.0.0.1:9093", "--cluster.listen-address="],
    );
    for (name, protocol, port, shown) in [
        ("loki", "http", 3100, "-config.file=/x"),
        ("alloy", "http", 12345, "run"),
        ("grafana", "http", 3000, "server"),
        ("pgbouncer", "postgres", 6432, ""),
    ] {
        let program = scene.program_file(name);
        let (variable, _) = super::rogue(name, protocol, &["--port", &port.to_string()]);
        scene.spawn("env", &[&variable, &program, shown]);
        scene.until_listening(port);
    }
    let beam = scene.program_file("beam.smp");
    let (variable, _) = super::rogue("beam.smp", "rabbitmq", &["--port", "5672"]);
    scene.spawn("env", &[&variable, &beam, "-s", "rabbit", "boot"]);
    for port in [8080, 9090, 9093, 5672] {
        scene.until_listening(port);
    }
    let names = "redis-server|postgres|nginx|prometheus|prometheus-aler|loki|alloy|grafana|pgbouncer|beam.smp";
    scene.sh(&format!("pkill -STOP -x '{names}'"));
    let run = in_time(&scene, &["redis", "postgres", "nginx", "monitoring", "rabbitmq", "disk"], &[]);
    for target in [":6379", ":5432", ":9090", ":9093", ":3100", ":12345", ":3000", ":6432", ":5672"] {
        let bad = rows(&run, target).any(|row| matches!(row.verdict.as_str(), "crit" | "unknown"));
        assert!(bad, "{target} hangs and is not reported: {}", summary(&run));
    }
}

#[test]
fn process_in_uninterruptible_sleep_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    // vfork(2) does not return until its child exits or calls execve(2)
    let script = "import ctypes, os, time; libc = ctypes.CDLL(None); \
        (time.sleep(1000) if libc.vfork() == 0 else None)";
    for name in ["redis-server", "postgres", "nginx"] {
        let program = format!("/mnt/home/mallory/bin/{name}");
        scene.sh(&format!("mkdir -p /mnt/home/mallory/bin; ln -sf /usr/bin/python3 {program}"));
        scene.spawn(&program, &["-c", script]);
    }
    scene.wait_for("ps -eo state=,comm= | grep -q '^D'");
    in_time(&scene, &["redis", "postgres", "nginx", "cpu", "memory", "disk"], &[]);
}

#[test]
fn two_thousand_processes_respect_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    scene.spawn("/run/lab/fixture", &["children", "2000"]);
    scene.wait_long("2,000 processes run", "[ $(ls -d /proc/[0-9]* | wc -l) -ge 2000 ]");
    let run = ends_in_time(&scene, &["diagnose", "--format", "json"], &DEADLINE);
    let late = run.report().checks.iter().filter(|c| c.verdict == "unknown").count();
    assert!(late * 2 < run.report().checks.len(), "less than half of the checks have a result: {}", summary(&run));
}

#[test]
fn two_hundred_fakes_of_a_user_respect_deadline() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.redis(6379, &[]);
    let program = scene.program_file("redis-server");
    let variable = super::rogue("fakes", "redis", &["--how", "hang", "--port"]).0;
    let variable = quoted(variable.trim_start_matches("ROGUE="));
    scene.spawn_as_user(&format!("for port in $(seq 7000 7199); do ROGUE={variable}$'\\n'$port {program} & done; wait"));
    scene.until_listening(7199);
    let run = in_time(&scene, &["redis", "disk"], &["belongs to user"]);
    let redis = rows(&run, "redis:127.0.0.1:6379").find(|row| row.check == "redis.up");
    assert!(redis.is_some_and(|row| row.verdict == "ok"), "the Redis of root is not examined: {}", summary(&run));
    let findings = run.report().findings.iter().filter(|f| f.severity > Severity::Info).count();
    assert!(findings < 10, "{findings} alarms caused by a user: {}", summary(&run));
}

/// Diagnoses containers with misbehaving servers, one for each product.
#[track_caller]
fn misbehaving(how: &str) {
    let Some(scene) = Scene::start() else { return };
    let products: &[(&str, &str, &str, &[&str])] = &[
        ("redis-server", "redis", "6379", &[]),
        ("postgres", "postgres", "5432", &[]),
        ("beam.smp", "rabbitmq", "5672,15672", &["--", "-s", "rabbit", "boot"]),
        ("prometheus", "http", "9090", &["--", "--config.file=/x"]),
        ("loki", "http", "3100", &["--", "-config.file=/x"]),
        ("grafana", "http", "3000", &["--", "server"]),
    ];
    let names: Vec<&str> = products.iter().map(|(name, ..)| *name).collect();
    scene.tools(&names);
    for (name, protocol, ports, shown) in products {
        let args = [&["--port", ports, "--how", how], *shown].concat();
        scene.hostile(
            name,
            &["-e", "POSTGRES_PASSWORD=x-password", "-e", "REDIS_PASSWORD=x-password"],
            name,
            name,
            protocol,
            &args,
        );
    }
    let python = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); \
        print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)";
    let words =
        [&["diagnose", "redis", "postgres", "rabbitmq", "monitoring", "disk", "--format", "json"], &DEADLINE[..]].concat();
    let mut command = scene.opsctl_command(&["/usr/bin/python3", "-c", python], &words);
    let Some(run) = scene.read_within(&mut command, KILL_TIMEOUT) else { panic!("it has not ended after {KILL_TIMEOUT:?}") };
    assert!(run.took < LIMIT + LAB_OVERHEAD, "took {:?}: {}", run.took, summary(&run));
    assert!(!run.stderr.contains("panicked") && (1..=3).contains(&run.code), "exit {}: {}", run.code, run.stderr);
    let peak: u64 = run.stderr.lines().find_map(|l| l.strip_prefix("peak ")?.parse().ok()).unwrap_or(u64::MAX);
    assert!(peak < 300 << 10, "peak memory {} MiB", peak >> 10);
    for (name, protocol, ..) in products {
        // checks of a page without evaluation of its content accept any body
        let judged = how != "deep" || *protocol != "http";
        assert!(
            !judged || rows(&run, name).any(|row| row.verdict != "ok" && row.verdict != "skip"),
            "{name} is reported as ok: {}",
            summary(&run)
        );
    }
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"), "{}", summary(&run));
}

#[test]
fn servers_that_hang_respect_deadline() {
    misbehaving("hang");
}

#[test]
fn servers_with_endless_responses_respect_deadline() {
    misbehaving("endless");
}

#[test]
fn servers_that_send_one_byte_at_a_time_respect_deadline() {
    misbehaving("drip");
}

#[test]
fn servers_that_send_garbage_respect_deadline() {
    misbehaving("garbage");
}

#[test]
fn servers_that_announce_huge_lengths_respect_deadline() {
    misbehaving("length");
}

#[test]
fn servers_with_deeply_nested_responses_respect_deadline() {
    misbehaving("deep");
}

#[test]
fn compressed_log_of_zeroes_is_read_up_to_a_limit() {
    if !installed(&["nginx"]) {
        return;
    }
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["nginx"]);
    let bomb = "import zlib, sys\nc = zlib.compressobj(9, zlib.DEFLATED, 31)\nout = open('/mnt/logs/access.log.1.gz', 'wb')\n\
        piece = bytes(1 << 24)\nfor _ in range(24): out.write(c.compress(piece))\nout.write(c.flush())\n";
    std::fs::write(scene.path("bomb.py"), bomb).unwrap();
    scene.sh(&format!("mkdir /mnt/logs; /usr/bin/python3 {}; touch /mnt/logs/access.log", scene.path("bomb.py").display()));
    scene.sh("printf 'events {} http { access_log /logs/access.log; server { listen 8080; } }' > /mnt/tools/nginx.conf");
    let title = "nginx: master process nginx -c /tools/nginx.conf";
    scene.hostile("web", &["-v", "/mnt/logs:/logs"], "nginx", title, "http", &["--port", "8080"]);
    ends_in_time(&scene, &["diagnose", "nginx", "disk", "--format", "json"], &DEADLINE);
}

/// Runs opsctl with a full pipe without a reader as standard output or error; its exit code and duration in milliseconds.
fn with_full_pipe(scene: &Scene, redirect: &str) -> (i32, u64) {
    let config = format!("OPSCTL_STATE_DIR={}", scene.path("state").display());
    let output = scene.sh(&format!(
        "mkfifo /mnt/pipe; exec 3<> /mnt/pipe; dd if=/dev/zero of=/mnt/pipe bs=65536 count=1 status=none
        start=$(date +%s%N); env {config} timeout -s KILL 20 /run/lab/opsctl diagnose disk cpu memory -vv --format json --deadline 3s {redirect} && code=0 || code=$?
        echo $code $(( ($(date +%s%N) - start) / 1000000 ))"
    ));
    let mut words = output.split_whitespace();
    let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or_else(|| panic!("{output}"));
    (i32::try_from(number()).unwrap(), number())
}

#[test]
fn full_pipe_on_standard_output_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    let (code, took) = with_full_pipe(&scene, "> /mnt/pipe 2> /dev/null");
    assert!(took < 4700, "took {took} ms: exit {code}");
    assert!(code != 0, "exit code 0 without a written report");
}

#[test]
fn full_pipe_on_standard_error_respects_deadline() {
    let Some(scene) = Scene::without_engine() else { return };
    let (code, took) = with_full_pipe(&scene, "> /dev/null 2> /mnt/pipe");
    assert!(took < 4700, "took {took} ms: exit {code}");
}

#[test]
fn nearly_exhausted_memory_respects_deadline() {
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    // opsctl in a control group with little free memory, as in a unit with MemoryMax=
    let roots = "for g in /sys/fs/cgroup/memory /sys/fs/cgroup; do [ -e $g/cgroup.procs ] && break; done";
    let group = format!("$g/docker/opsctl-lab-{}", scene.secret);
    scene.sh(&format!(
        "{roots}; mkdir -p {group}; echo 80M > {group}/memory.limit_in_bytes 2> /dev/null || echo 80M > {group}/memory.max
        (echo $BASHPID > {group}/cgroup.procs; exec setsid --fork /run/lab/fixture mem-eater 8 --up-to 56 > /dev/null 2>&1)"
    ));
    scene.wait_for("ps -o rss= -C fixture | awk '$1 > 50000 { found = 1 } END { exit !found }'");
    let enter = format!("{roots}; echo $$ > {group}/cgroup.procs; exec \"$@\"");
    let words = [&["diagnose", "disk", "cpu", "memory", "container", "--format", "json"], &DEADLINE[..]].concat();
    let run = scene.read_within(&mut scene.opsctl_command(&["bash", "-c", &enter, "bash"], &words), KILL_TIMEOUT);
    scene.sh(&format!(
        "{roots}; for p in $(cat {group}/cgroup.procs); do kill -KILL $p 2> /dev/null || true; done
        until rmdir {group} 2> /dev/null; do sleep 0.05; done"
    ));
    let Some(run) = run else { panic!("it has not ended after {KILL_TIMEOUT:?}") };
    assert!(run.took < LIMIT + LAB_OVERHEAD, "took {:?}: exit {} {}", run.took, run.code, summary(&run));
    run.report();
}

/// An engine of another user cannot explain the end of a container of root, and does not hide it by its errors and delays.
#[test]
fn engine_of_a_user_does_not_speak_for_the_engine_of_root() {
    if !installed(&["python3"]) {
        return;
    }
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    scene.docker(
        &[&["run", "-d", "--name", "web", "--restart", "on-failure:1"], MACHINE, &["machine:1", "sh", "-c", "exit 3"]].concat(),
    );
    eventually(30, "web has ended", || (scene.inspect("web", "{{.State.Status}}").trim() == "exited").then_some(()));
    let directory = format!("/run/user/{UID}");
    let socket = format!("{directory}/docker.sock");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attacks/user_engine.py");
    scene.sh(&format!(
        "mkdir -p -m 755 /run/user; mkdir -p -m 700 {directory}; chown {UID} {directory}
        install -m 644 {script} /mnt/user_engine.py"
    ));
    let id = scene.inspect("web", "{{.Id}}");
    scene.spawn_as_user(&format!("exec python3 /mnt/user_engine.py {socket} {}", id.trim()));
    scene.wait_for(&format!("[ -S {socket} ]"));
    let of_user = format!("user {USER}");
    let run = in_time(&scene, &["container", "network"], &[of_user.as_str()]);
    let of_root = |row: &&CheckRow| row.target.ends_with("web");
    let states: Vec<_> = run.report().checks.iter().filter(of_root).filter(|row| row.check == "container.state").collect();
    assert!(states.iter().any(|row| !matches!(row.verdict.as_str(), "unknown" | "skip")), "{}", summary(&run));
    assert!(!run.stdout.contains("stopped by hand"), "{}", run.stdout);
}

/// The protection against hangs does not slow down a run on a healthy host.
#[test]
fn run_on_a_healthy_host_ends_before_its_deadline() {
    let Some(scene) = Scene::start() else { return };
    scene.image("machine:1", Rootfs::Machine, &[]);
    scene.run("idle", &[MACHINE, &["machine:1", "sleep", "1000"]].concat());
    let run = eventually(30, "the run ends before its deadline", || {
        let run = ends_in_time(&scene, &["diagnose", "--format", "json"], &DEADLINE);
        (run.took < Duration::from_secs(3)).then_some(run)
    });
    assert!(
        !run.report().checks.iter().any(|c| c.check.starts_with("container.") && c.verdict == "unknown"),
        "{}",
        summary(&run)
    );
}

/// A thread of opsctl has the effective user id of a server while it connects to its socket: that user sends SIGSTOP to all it can.
#[test]
fn user_of_a_server_cannot_stop_opsctl() {
    if !installed(&["psql"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    scene.postgres("");
    let script =
        "while :; do for pid in $(pgrep -x opsctl); do kill -STOP $pid 2> /dev/null && echo $pid >> /mnt/pg/stopped; done; done";
    scene.spawn("setpriv", &["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "bash", "-c", script]);
    let run = ends_in_time(&scene, &["diagnose", "postgres", "--format", "json"], &DEADLINE);
    assert!(rows(&run, "").any(|row| row.check == "postgres.up" && row.verdict == "ok"), "{}", summary(&run));
    assert_eq!(scene.sh("[ ! -e /mnt/pg/stopped ] || cat /mnt/pg/stopped"), "");
}
