//! Real databases, brokers and workers on a lab host, or in its containers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::host::Host;
use super::image::Rootfs;
use super::{available, eventually};

/// Time limit for the start of a server on a busy machine, in seconds.
const UP: u64 = 60;

/// Mounts of a container of [`Rootfs::Machine`]: this machine's programs and the lab's cache (Celery).
pub(crate) const MACHINE: &[&str] = &["-v", "/usr:/usr:ro", "-v", "/var/cache/opsctl-lab:/var/cache/opsctl-lab:ro"];

/// Celery's virtual environment; built if it is missing.
fn celery() -> Result<&'static Path, &'static str> {
    static CELERY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        if let Some(path) = std::env::var_os("OPSCTL_LAB_CELERY") {
            return if path.is_empty() { Err("needs Celery from PyPI".to_owned()) } else { Ok(path.into()) };
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/build-celery");
        let output = Command::new(script).output().map_err(|e| format!("{script}: {e}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(format!("needs Celery from PyPI: {}", stderr.lines().last().unwrap_or(script)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    };
    CELERY.get_or_init(build).as_deref().map_err(String::as_str)
}

/// Whether these programs are installed; skips the test otherwise.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|p| which::which(p).is_err());
    available(missing.map(|p| format!("needs {p} (tests/run installs it)")).as_deref())
}

impl Host {
    /// A host with servers, without an engine.
    pub(crate) fn with_servers(programs: &[&str]) -> Option<Self> {
        if installed(programs) { Self::without_engine() } else { None }
    }

    /// Starts Redis on `port` with these options and waits until it responds.
    #[track_caller]
    pub(crate) fn redis(&self, port: u16, options: &[&str]) {
        let port = port.to_string();
        let dir = self.path(&format!("redis-{port}")).display().to_string();
        // a running server has replaced its arguments by a title: only its configuration file shows where it saves
        let saves_to = options.iter().skip_while(|word| **word != "--dir").nth(1).map_or(dir.as_str(), |word| *word);
        let file = format!("{dir}/redis.conf");
        self.sh(&format!("mkdir -p {dir}; echo 'dir {saves_to}' > {file}"));
        // of repeated options the last one counts
        let all = [&[file.as_str(), "--port", &port, "--dir", &dir, "--loglevel", "warning"], options].concat();
        self.spawn("redis-server", &all);
        eventually(UP, "redis answers", || {
            let output = self.command("redis-cli").args(["-p", &port, "ping"]).output().ok()?;
            let reply = String::from_utf8_lossy(&output.stdout).into_owned();
            ["PONG", "NOAUTH", "MISCONF"].iter().any(|w| reply.contains(w)).then_some(())
        });
    }

    /// Starts Redis on port 6379 with a separate small disk at `/mnt/redis` and data to save.
    #[track_caller]
    pub(crate) fn redis_with_disk(&self) {
        self.sh("mkdir /mnt/redis; mount -t tmpfs -o size=16m tmpfs /mnt/redis");
        self.redis(6379, &["--dir", "/mnt/redis", "--save", "900 1"]);
        self.sh("head -c 1M /dev/urandom | redis-cli -x set key > /dev/null");
    }

    /// One value of its `INFO persistence`.
    #[track_caller]
    pub(crate) fn persistence(&self, key: &str) -> String {
        self.sh(&format!("redis-cli info persistence | tr -d '\\r' | sed -n 's/^{key}://p'"))
    }

    /// Makes its last snapshot fail, then frees space for the next one.
    #[track_caller]
    pub(crate) fn fail_to_save(&self) {
        self.sh("rm -f /mnt/redis/dump.rdb; cat /dev/zero > /mnt/redis/ballast 2> /dev/null || true");
        eventually(UP, "the snapshot has failed", || {
            self.sh("redis-cli bgsave || true");
            let failed = self.persistence("rdb_last_bgsave_status") == "err";
            (failed && self.persistence("rdb_bgsave_in_progress") == "0").then_some(())
        });
        self.sh("rm /mnt/redis/ballast");
    }

    /// Starts Redis in a container `cache` with this memory limit, no `maxmemory`, and this many values of 1 MB.
    #[track_caller]
    pub(crate) fn cache(&self, limit: &str, values: u32) {
        self.image("machine:1", Rootfs::Machine, &[]);
        let limits = ["--memory", limit, "--memory-swap", limit];
        let server = ["machine:1", "redis-server", "--save", "", "--maxmemory-policy", "allkeys-lru"];
        self.run("cache", &[&limits, MACHINE, &server].concat());
        eventually(UP, "it answers", || self.try_docker(&["exec", "cache", "redis-cli", "ping"]).status.success().then_some(()));
        let fill = format!("for i = 1, {values} do redis.call('set', 'k' .. i, string.rep('x', 1000000)) end");
        self.docker(&["exec", "cache", "redis-cli", "eval", &fill, "0"]);
    }

    /// Starts RabbitMQ on port 5672 with its management API and waits until it accepts clients. `/mnt/rmq/env` sets the
    /// environment of its tools.
    #[track_caller]
    pub(crate) fn rabbit(&self) {
        self.sh("mkdir -p /mnt/rmq; echo '[rabbitmq_management].' > /mnt/rmq/plugins; cat > /mnt/rmq/env <<'EOF'
export HOME=/mnt/rmq RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_MNESIA_BASE=/mnt/rmq/mnesia RABBITMQ_LOG_BASE=/mnt/rmq/log
export RABBITMQ_ENABLED_PLUGINS_FILE=/mnt/rmq/plugins RABBITMQ_CONFIG_FILE=/mnt/rmq/none RABBITMQ_PID_FILE=/mnt/rmq/pid
EOF");
        self.spawn("bash", &["-c", ". /mnt/rmq/env; exec /usr/lib/rabbitmq/bin/rabbitmq-server"]);
        let running = ". /mnt/rmq/env; /usr/lib/rabbitmq/bin/rabbitmq-diagnostics -q check_running";
        eventually(120, "RabbitMQ accepts clients", || {
            self.command("bash").args(["-c", running]).output().ok()?.status.success().then_some(())
        });
    }

    /// Creates a cluster on port 5432 with these settings, starts it, and creates the role `app` with the database `shop`.
    #[track_caller]
    pub(crate) fn postgres(&self, settings: &str) {
        self.make_postgres(settings);
        self.start_postgres();
        self.psql("CREATE ROLE app LOGIN PASSWORD 'canary-app-password'");
        self.psql("CREATE DATABASE shop OWNER app");
    }

    /// Creates a cluster below `/mnt/pg` that trusts its own user and `app` over its socket and requires a password over TCP.
    #[track_caller]
    pub(crate) fn make_postgres(&self, settings: &str) {
        self.sh(&format!(
            "mkdir -p /mnt/pg /run/postgresql; chown postgres /mnt/pg /run/postgresql
            bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1); ln -sfn $bin /mnt/pg-bin
            setpriv --reuid postgres --regid postgres --clear-groups $bin/initdb -D /mnt/pg/data --no-sync -U postgres -A peer > /dev/null
            printf 'local all app trust\\nlocal all all peer\\nhost all all 127.0.0.1/32 scram-sha-256\\n' > /mnt/pg/data/pg_hba.conf
            cat >> /mnt/pg/data/postgresql.conf <<'EOF'
fsync = off
unix_socket_directories = '/run/postgresql'
logging_collector = on
log_filename = 'server.log'
{settings}
EOF"
        ));
    }

    /// Starts it and waits until it responds.
    #[track_caller]
    pub(crate) fn start_postgres(&self) {
        self.spawn(
            "setpriv",
            &["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "/mnt/pg-bin/postgres", "-D", "/mnt/pg/data"],
        );
        eventually(UP, "postgres answers", || {
            self.command("/mnt/pg-bin/pg_isready").args(["-h", "/run/postgresql"]).status().ok()?.success().then_some(())
        });
    }

    /// Result of a statement of the server's own user.
    #[track_caller]
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.sh(&format!("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -Atqc \"{sql}\""))
    }

    /// Opens a session of the role `app` that sends these statements and stays open; returns when they have ended or wait for a
    /// lock.
    #[track_caller]
    pub(crate) fn session(&self, name: &str, sql: &str) {
        let connection = format!("host=/run/postgresql user=app dbname=shop application_name={name}");
        // a short session of another client, or the query below, may occupy the last connection for a moment
        let script = "started=$(mktemp -u); until [ -e $started ]; do sleep 0.1; \
                      psql -q -d \"$0\" -c \"\\\\! touch $started\" -c \"$1\" -c '\\! sleep 600' 2> /dev/null; done";
        self.spawn("bash", &["-c", script, &connection, sql]);
        // its statement has ended, or waits for a lock of another session
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND query <> '' \
             AND (state LIKE 'idle%' OR wait_event_type = 'Lock')"
        );
        eventually(UP, "the session is there", || (self.psql(&count) != "0").then_some(()));
    }

    /// PID of the backend of the session of this name, from `pg_stat_activity`.
    #[track_caller]
    pub(crate) fn backend(&self, name: &str) -> String {
        self.psql(&format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{name}'"))
    }

    /// A host with an engine, the image `machine:1`, a network `app` and a Redis `cache` in it; `None` if Celery is not
    /// available.
    pub(crate) fn with_broker() -> Option<Self> {
        let host = Self::with_celery(Self::start)?;
        host.image("machine:1", Rootfs::Machine, &[]);
        host.docker(&["network", "create", "app"]);
        host.redis_container("cache", &[]);
        Some(host)
    }

    /// Such a host; `None` if Celery is not available.
    pub(crate) fn with_celery(host: impl FnOnce() -> Option<Self>) -> Option<Self> {
        if !installed(&["redis-server", "python3"]) {
            return None;
        }
        if let Err(why) = celery() {
            available(Some(why));
            return None;
        }
        host()
    }

    /// Starts Redis in a container of the network `app` and waits until it responds.
    #[track_caller]
    pub(crate) fn redis_container(&self, name: &str, options: &[&str]) {
        let program = ["machine:1", "redis-server", "--port", "6379", "--protected-mode", "no"];
        self.run(name, &[&["--network", "app"], options, MACHINE, &program].concat());
        self.until_redis(name);
    }

    /// Waits until the Redis in this container responds.
    #[track_caller]
    pub(crate) fn until_redis(&self, name: &str) {
        eventually(UP, "redis answers", || self.try_docker(&["exec", name, "redis-cli", "ping"]).status.success().then_some(()));
    }

    /// The cluster of [`Host::make_postgres`] in a container that shares the host's network, with the role `app` and its database `shop`.
    #[track_caller]
    pub(crate) fn postgres_container(&self, name: &str, options: &[&str]) {
        let binary = format!("{}/postgres", self.sh("readlink /mnt/pg-bin"));
        let own = ["--network", "host", "-v", "/mnt/pg:/mnt/pg", "-v", "/run/postgresql:/run/postgresql", "--user", "postgres"];
        let program = ["machine:1", &binary, "-D", "/mnt/pg/data", "-c", "logging_collector=off"];
        self.run(name, &[&own, options, MACHINE, &program].concat());
        eventually(UP, "postgres answers", || {
            self.command("/mnt/pg-bin/pg_isready").args(["-h", "/run/postgresql"]).status().ok()?.success().then_some(())
        });
        self.psql("CREATE ROLE app LOGIN PASSWORD 'canary-app-password'");
        self.psql("CREATE DATABASE shop OWNER app");
    }

    /// Starts a Celery process in a container: `worker` or `beat`, with its options. `BROKER_URL` is the URL of the broker.
    #[track_caller]
    pub(crate) fn celery(&self, name: &str, options: &[&str], args: &[&str]) {
        let python = celery().map(|c| c.join("bin/python").display().to_string()).unwrap_or_default();
        let tasks = self.path("tasks");
        self.sh(&format!("mkdir -p {0}; cp {1}/tests/lab/tasks.py {0}/", tasks.display(), env!("CARGO_MANIFEST_DIR")));
        let mount = format!("{}:/tasks:ro", tasks.display());
        let common = ["-v", &mount, "-w", "/tasks", "-e", "PYTHONDONTWRITEBYTECODE=1", "-e", "HOME=/tmp", "-e", "C_FORCE_ROOT=1"];
        let image = ["machine:1", &python, "-m", "celery", "-A", "tasks"];
        self.run(name, &[MACHINE, &common, options, &image, args].concat());
    }

    /// Starts a worker in the network `app` on the broker `cache` and waits until it consumes.
    #[track_caller]
    pub(crate) fn worker(&self, name: &str, args: &[&str]) {
        let broker = ["--network", "app", "-e", "BROKER_URL=redis://cache:6379/1"];
        self.celery(name, &broker, &[&["worker", "-c", "1", "-l", "warning"], args].concat());
        eventually(UP, "the worker consumes tasks", || {
            let log = self.try_docker(&["logs", name]);
            assert!(self.inspect(name, "{{.State.Running}}") == "true", "{}", String::from_utf8_lossy(&log.stderr));
            self.broker(&["CLIENT", "LIST"]).contains("cmd=brpop").then_some(())
        });
    }

    /// Sends tasks: `tasks.py NAME COUNT [PRIORITY [COUNTDOWN [ARGUMENT]]]`.
    #[track_caller]
    pub(crate) fn send(&self, words: &str) {
        let address = self.inspect("cache", "{{(index .NetworkSettings.Networks \"app\").IPAddress}}");
        self.send_over(&format!("redis://{address}:6379/1"), words);
    }

    /// [`Host::send`] to another broker.
    #[track_caller]
    pub(crate) fn send_over(&self, broker: &str, words: &str) {
        let python = celery().map(|c| c.join("bin/python").display().to_string()).unwrap_or_default();
        self.sh(&format!(
            "cd {}/tests/lab; PYTHONDONTWRITEBYTECODE=1 BROKER_URL={broker} {python} tasks.py {words}",
            env!("CARGO_MANIFEST_DIR")
        ));
    }

    /// Reply of the broker `cache` in database 1.
    #[track_caller]
    pub(crate) fn broker(&self, words: &[&str]) -> String {
        self.docker(&[&["exec", "cache", "redis-cli", "-n", "1"], words].concat())
    }
}
