//! Servers that misbehave, require a login, or run in a container: the right verdict in time, without a delay of other checks.

use std::time::Duration;

use crate::lab::{Host, MACHINE, Rootfs, Run, eventually, installed};

/// Time limit of these checks, with a margin for a busy machine.
const IN_TIME: Duration = Duration::from_secs(12);

const RUNBOOKS: &[&str] = &["postgres", "redis", "rabbitmq", "celery", "disk"];

/// The row of a check on a target without dependencies.
#[track_caller]
fn verdict(run: &Run, check: &str, target: &str) -> String {
    run.check(check, target).verdict.clone()
}

#[test]
fn malformed_responses_are_distinguished_and_delay_nothing() {
    let Some(host) = Host::with_servers(&["redis-server"]) else { return };
    host.redis(6000, &[]);
    // servers are identified by program name
    host.sh("for p in redis-server postgres beam.smp; do cp /run/lab/fixture /mnt/$p; done");
    let products = [("redis", "redis-server", 6400), ("postgres", "postgres", 5400), ("rabbitmq", "beam.smp", 5700)];
    let behaviours = ["silent", "garbage", "half", "close"];
    for (_, program, port) in products {
        for (i, how) in (0..).zip(behaviours) {
            let port = (port + i).to_string();
            host.spawn(&format!("/mnt/{program}"), &["talk", "--port", &port, how, "-s", "rabbit", "boot"]);
            eventually(10, "it listens", || host.sh("ss -Hltn").contains(&format!(":{port} ")).then_some(()));
        }
    }
    let run = host.run_runbooks(RUNBOOKS);
    assert!(run.took < IN_TIME, "took {:?}", run.took);
    for (product, _, port) in products {
        for (i, how) in (0..).zip(behaviours) {
            let name = format!("{product}.up {product}:127.0.0.1:{}", port + i);
            let expected: &[&str] = match (how, product) {
                ("silent", _) => &["did not answer within"],
                // half a PostgreSQL message is no response to SSLRequest, which comes first
                ("garbage", _) | ("half", "postgres") => &["does not speak"],
                _ => &["closed the connection"],
            };
            run.mentions(&name, expected);
        }
    }
    assert_eq!(verdict(&run, "redis.up", "redis:127.0.0.1:6000"), "ok");
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"));
}

#[test]
fn stopped_servers_are_reported_as_hung_with_the_reason() {
    let Some(host) = Host::with_servers(&["redis-server", "psql"]) else { return };
    host.redis(6379, &[]);
    host.postgres("");
    host.run_runbooks(&["redis", "postgres"]).roots(&[]);
    host.sh("kill -STOP $(pgrep -x redis-server) $(head -1 /mnt/pg/data/postmaster.pid)");
    let run = host.run_runbooks(RUNBOOKS);
    assert!(run.took < IN_TIME, "took {:?}", run.took);
    let (redis, postgres) = ("redis.up redis:127.0.0.1:6379", "postgres.up postgres:127.0.0.1:5432");
    run.roots(&[redis, postgres])
        .mentions(redis, &["did not answer", "state T"])
        .mentions(postgres, &["did not answer", "state T"]);
    host.sh("kill -CONT $(pgrep -x redis-server) $(head -1 /mnt/pg/data/postmaster.pid)");
    host.run_runbooks(&["redis", "postgres"]).roots(&[]);
}

#[test]
fn server_in_recovery_is_not_reported_as_down() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.postgres("");
    // the startup process waits: nothing is recovered
    host.sh("setpriv --reuid postgres --regid postgres --clear-groups /mnt/pg-bin/pg_ctl -D /mnt/pg/data -m immediate -w stop > /dev/null
        echo \"restore_command = 'sleep 1000'\" >> /mnt/pg/data/postgresql.conf; touch /mnt/pg/data/recovery.signal");
    host.spawn(
        "setpriv",
        &["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "/mnt/pg-bin/postgres", "-D", "/mnt/pg/data"],
    );
    eventually(30, "PostgreSQL accepts connections and no queries", || {
        host.sh("psql -h /run/postgresql -U app shop -c 'SELECT 1' 2>&1 || true").contains("starting up").then_some(())
    });
    let run = host.run_runbooks(&["postgres"]);
    let up = "postgres.up postgres:127.0.0.1:5432";
    run.roots(&[up]).mentions(up, &["accepts no queries", "starting up", "restart starts the recovery from the beginning"]);
}

#[test]
fn missing_login_is_reported_with_the_line_to_add_and_without_the_secret() {
    let Some(host) = Host::with_servers(&["redis-server", "psql", "openssl"]) else { return };
    host.redis(6379, &["--requirepass", "canary-redis-right"]);
    host.postgres("");
    let redis = "redis:127.0.0.1:6379";
    let run = host.run_runbooks(&["redis"]);
    run.must_not(&["redis."]).exits(3);
    let row = run.check("redis.up", redis);
    assert_eq!(row.verdict, "unknown");
    assert!(row.reason.as_ref().is_some_and(|r| r.contains("[[server]] name = \"127.0.0.1:6379\"")), "{:?}", row.reason);

    // a wrong one, the right one from the environment, the right one from a file
    let with = |line: &str, secret: &str| {
        host.configure(&format!("[[server]]\nname = \"127.0.0.1:6379\"\n{line}\n"));
        let mut seen = String::new();
        let mut run = None;
        for format in ["table", "json", "markdown"] {
            let one = host.read(host.opsctl_command(&[], &["redis", "-vv", "--format", format]).env("REDIS_PW", secret));
            seen = [seen.as_str(), &one.stdout, &one.stderr].concat();
            run = Some(one);
        }
        host.sh(&format!(
            "OPSCTL_CONFIG={} REDIS_PW={secret} /run/lab/opsctl record /mnt/recording.json -q || true",
            host.path("opsctl.toml").display()
        ));
        seen += &host.sh("cat /mnt/recording.json");
        assert!(!seen.contains("canary"), "{seen}");
        run.unwrap().code
    };
    assert_eq!(with("password = \"${REDIS_PW}\"", "canary-redis-wrong"), 3);
    assert_eq!(with("password = \"${REDIS_PW}\"", "canary-redis-right"), 0);
    host.sh("redis-cli --no-auth-warning -a canary-redis-right ACL SETUSER watch on '>canary-redis-acl' '~*' +@all");
    assert_eq!(with("user = \"watch\"\npassword = \"${REDIS_PW}\"", "canary-redis-acl"), 0);
    host.sh("mkdir /mnt/own; printf 'canary-redis-right\\n' > /mnt/own/secret");
    assert_eq!(with("password_file = \"/mnt/own/secret\"", "unused"), 0);
    // an unset variable is named, and affects only its server
    host.configure("[[server]]\nname = \"127.0.0.1:6379\"\npassword = \"${NO_SUCH_VARIABLE}\"\n");
    let run = host.run_runbooks(&["redis", "postgres"]);
    run.exits(3);
    assert!(run.stdout.contains("environment variable NO_SUCH_VARIABLE is not set"), "{}", run.stdout);
    assert_eq!(verdict(&run, "postgres.up", "postgres:127.0.0.1:5432"), "ok");

    // an unprivileged user cannot be the server's own user: the methods of libpq
    host.sh(&format!("rm {}", host.path("opsctl.toml").display()));
    let unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    host.sh("printf '127.0.0.1:5432:*:app:canary-app-password\\n' > /mnt/pgpass; chown 65534 /mnt/pgpass; chmod 600 /mnt/pgpass");
    let args = ["postgres", "--format", "json"];
    let mut command = host.opsctl_command(&unprivileged, &args);
    command.env("HOME", "/nonexistent").env("PGHOST", "127.0.0.1").env("PGUSER", "app").env("PGDATABASE", "shop");
    let run = host.read(command.env("PGPASSFILE", "/mnt/pgpass"));
    assert_eq!(verdict(&run, "postgres.up", "postgres:127.0.0.1:5432"), "ok", "{}", run.stdout);
    assert!(run.stdout.contains("GRANT pg_monitor TO app"), "the missing rights are reported: {}", run.stdout);
    assert!(!run.stdout.contains("canary"));
}

#[test]
fn servers_that_require_tls_are_queried_over_tls() {
    let Some(host) = Host::with_servers(&["redis-server", "psql", "openssl"]) else { return };
    host.sh("cd /mnt; openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem 2> /dev/null; chmod 644 key.pem
        cp cert.pem key.pem /run/; chown postgres /run/key.pem; chmod 600 /run/key.pem");
    let tls = [
        "--tls-port",
        "6390",
        "--tls-cert-file",
        "/mnt/cert.pem",
        "--tls-key-file",
        "/mnt/key.pem",
        "--tls-ca-cert-file",
        "/mnt/cert.pem",
        "--tls-auth-clients",
        "no",
    ];
    host.spawn("redis-server", &[&["--port", "0", "--save", "3600 1"], &tls[..]].concat());
    eventually(30, "redis listens", || host.sh("ss -Hltn").contains(":6390 ").then_some(()));
    host.make_postgres("ssl = on\nssl_cert_file = '/run/cert.pem'\nssl_key_file = '/run/key.pem'");
    // not even its own user may connect without TLS
    host.sh("printf 'local all postgres peer\\nlocal all all reject\\nhostssl all app 127.0.0.1/32 scram-sha-256\\n' > /mnt/pg/data/pg_hba.conf");
    host.start_postgres();
    host.psql("CREATE ROLE app LOGIN PASSWORD 'canary-app-password'");
    host.psql("GRANT pg_monitor TO app");
    // in a file that an unprivileged user can read
    let config = "/mnt/own/opsctl.toml";
    host.sh(&format!(
        "mkdir /mnt/own; cat > {config} <<'EOF'\n{}\nEOF",
        "[[server]]\nname = \"tls\"\nurl = \"postgres://app:${PG_PW}@localhost:5432/postgres?sslmode=require\""
    ));
    let args = [&["diagnose"], RUNBOOKS, &["--format", "json"]].concat();
    let unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let run = host.read(host.opsctl_command(&[], &args).env("OPSCTL_CONFIG", config).env("PG_PW", "canary-app-password"));
    assert_eq!(verdict(&run, "redis.up", "redis:127.0.0.1:6390"), "ok", "{}", run.stdout);
    assert_eq!(verdict(&run, "postgres.up", "postgres:127.0.0.1:5432"), "ok", "{}", run.stdout);
    // a user other than root connects over TCP, and so over TLS
    let run = host.read(
        host.opsctl_command(&unprivileged, &args)
            .env("OPSCTL_CONFIG", config)
            .env("HOME", "/nonexistent")
            .env("PG_PW", "canary-app-password"),
    );
    let row = run.report().checks.iter().find(|c| c.check == "postgres.activity").unwrap();
    assert!(row.verdict == "ok", "{}", run.stdout);
}

#[test]
fn servers_in_containers_without_published_ports_are_reached() {
    if !installed(&["redis-server", "psql"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.image("machine:1", Rootfs::Machine, &[]);
    host.make_postgres("");
    host.sh("printf 'local all all trust\\nhost all all all scram-sha-256\\n' > /mnt/pg/data/pg_hba.conf");
    let postgres = [
        "-v",
        "/mnt/pg:/mnt/pg",
        "--tmpfs",
        "/run/postgresql:mode=1777",
        "--user",
        "postgres",
        "-e",
        "POSTGRES_PASSWORD=canary-pg-env",
    ];
    let binary = host.sh("readlink /mnt/pg-bin");
    host.run(
        "shared_postgres",
        &[&postgres, MACHINE, &["machine:1", &format!("{binary}/postgres"), "-D", "/mnt/pg/data"]].concat(),
    );
    host.run(
        "cache",
        &[MACHINE, &["-e", "REDIS_PASSWORD=canary-redis-env", "machine:1", "redis-server", "--requirepass", "canary-redis-env"]]
            .concat(),
    );
    // its network is not reachable from the host: only from inside
    host.run("hidden", &[&["--network", "none"], MACHINE, &["machine:1", "redis-server", "--port", "7000"]].concat());
    let up = |name: &str, probe: &[&str]| host.try_docker(&[&["exec", name], probe].concat()).status.success().then_some(());
    eventually(60, "all servers run", || {
        up("cache", &["redis-cli", "ping"])?;
        up("hidden", &["redis-cli", "-p", "7000", "ping"])?;
        up("shared_postgres", &[&format!("{binary}/pg_isready"), "-h", "/run/postgresql"])
    });
    let run = host.run_runbooks(&["container", "postgres", "redis", "celery"]);
    run.roots(&[]);
    for (check, target) in [
        ("postgres.up", "postgres:shared_postgres"),
        ("postgres.activity", "postgres:shared_postgres"),
        ("postgres.disk", "postgres:shared_postgres"),
        ("redis.up", "redis:cache"),
        ("redis.memory", "redis:cache"),
        ("redis.up", "redis:hidden"),
    ] {
        assert_eq!(verdict(&run, check, target), "ok", "{check} {target}: {}", run.stdout);
    }
    let targets = host.opsctl(&["targets"]);
    for words in ["postgres     shared_postgres", "redis        cache", "redis        hidden"] {
        assert!(targets.stdout.contains(words), "{}", targets.stdout);
    }
    assert!(!run.stdout.contains("canary") && !targets.stdout.contains("canary"));
    // one connection, which is closed afterwards
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'opsctl'";
    let count = host.docker(&["exec", "shared_postgres", "psql", "-h", "/run/postgresql", "-U", "postgres", "-Atc", connections]);
    assert_eq!(count, "0");
}

#[test]
fn redis_near_its_container_limit_gets_maxmemory_and_it_is_reverted() {
    if !installed(&["redis-server"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.cache("80m", 56);
    let redis = |words: &[&str]| host.docker(&[&["exec", "cache", "redis-cli"], words].concat());
    let memory = "redis.memory redis:cache";
    let run = host.run_runbooks(&["redis"]);
    run.must(&[memory]).mentions(memory, &["no maxmemory", "of its limit 80 MiB"]);
    let fix = host.fix("redis.maxmemory", "cache", &[]);
    fix.exits(0);
    assert_eq!(redis(&["config", "get", "maxmemory"]), format!("maxmemory\n{}", 60 << 20));
    let entry = fix.stdout.split("opsctl undo ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    host.opsctl(&["undo", entry, "--yes"]).exits(0);
    assert_eq!(redis(&["config", "get", "maxmemory"]), "maxmemory\n0");
}

#[test]
fn database_on_a_full_disk_is_not_restarted_before_there_is_space() {
    if !installed(&["psql"]) {
        return;
    }
    let Some(host) = Host::start() else { return };
    host.image("machine:1", Rootfs::Machine, &[]);
    host.disk("/mnt/pg", 160, "-m 0");
    host.make_postgres("");
    let binary = host.sh("readlink /mnt/pg-bin");
    let options = ["-v", "/mnt/pg:/mnt/pg", "-v", "/run/postgresql:/run/postgresql", "--user", "postgres"];
    host.run(
        "db",
        &[&options, MACHINE, &["machine:1", &format!("{binary}/postgres"), "-D", "/mnt/pg/data", "-c", "logging_collector=off"]]
            .concat(),
    );
    let psql = |sql: &str| host.try_docker(&["exec", "db", "psql", "-h", "/run/postgresql", "-U", "postgres", "-Atqc", sql]);
    eventually(60, "PostgreSQL responds", || psql("SELECT 1").status.success().then_some(()));
    psql("CREATE TABLE t (a text)");
    host.run_runbooks(&["container", "postgres"]).roots(&[]);
    // the real failure of a database: its WAL does not fit, it panics, cannot recover, exits
    host.sh("avail=$(df -B1 --output=avail /mnt/pg | tail -1); fallocate -l $((avail - 4000000)) /mnt/pg/ballast");
    eventually(60, "PostgreSQL has exited", || {
        psql("SELECT pg_logical_emit_message(true, 'lab', repeat('x', 1000000))");
        (host.inspect("db", "{{.State.Running}}") == "false").then_some(())
    });
    let log = host.try_docker(&["logs", "db"]);
    assert!(String::from_utf8_lossy(&log.stderr).contains("PANIC"), "{}", String::from_utf8_lossy(&log.stderr));
    let run = host.run_runbooks(&["container", "disk", "postgres"]);
    let (space, up) = ("disk.space mount:/mnt/pg", "postgres.up postgres:db");
    run.must(&[up]).roots(&[space]).must_not(&["postgres.slots", "disk.inodes"]);
    // a start would not help
    let start = host.fix("container.start", "db", &[]);
    assert!(matches!(start.code, 15), "{}{}", start.stdout, start.stderr);
    assert_eq!(host.inspect("db", "{{.State.Running}}"), "false");
    host.sh("rm /mnt/pg/ballast");
    let start = host.fix("container.start", "db", &[]);
    let log = host.try_docker(&["logs", "--tail", "20", "db"]);
    assert!(start.code == 0, "{}{}", start.stdout, String::from_utf8_lossy(&log.stderr));
    host.run_runbooks(&["container", "disk", "postgres"]).must_not(&["postgres.up", "disk.space"]);
}

#[test]
fn connection_limit_of_a_role_or_database_is_reported() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.postgres("");
    host.psql("ALTER ROLE app CONNECTION LIMIT 3; ALTER DATABASE shop CONNECTION LIMIT 50");
    host.session("first", "SELECT 1");
    host.session("second", "SELECT 1");
    host.run_runbooks(&["postgres"]).roots(&[]);
    host.session("third", "SELECT 1");
    assert!(host.sh("psql -h /run/postgresql -U app shop -c '' 2>&1 || true").contains("too many connections for role"));
    let connections = "postgres.connections postgres:127.0.0.1:5432";
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[connections]).mentions(connections, &["the role app has reached its connection limit of 3", "app (first)"]);
    host.psql("ALTER ROLE app CONNECTION LIMIT -1; ALTER DATABASE shop CONNECTION LIMIT 3");
    host.run_runbooks(&["postgres"])
        .roots(&[connections])
        .mentions(connections, &["the database shop has reached its connection limit of 3"]);
}

#[test]
fn inactive_replication_slot_is_reported_and_dropped_only_by_name() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.configure("[runbooks.postgres]\nslot_warn_bytes = 16777216\n[policy]\nallow = [\"pg.drop-slot\"]\n");
    host.postgres("wal_level = logical");
    host.psql("SELECT pg_create_physical_replication_slot('gone', true)");
    host.psql("CREATE TABLE w AS SELECT g, repeat('x', 500) AS t FROM generate_series(1, 60000) AS g");
    host.psql("SELECT pg_switch_wal()");
    let slots = "postgres.slots postgres:127.0.0.1:5432";
    let run = host.run_runbooks(&["postgres"]);
    run.must(&[slots]).mentions(slots, &["slot gone", "of WAL"]);
    host.fix("pg.drop-slot", "127.0.0.1:5432", &[]).exits(10);
    assert_eq!(host.psql("SELECT count(*) FROM pg_replication_slots"), "1");
    host.fix("pg.drop-slot", "127.0.0.1:5432", &["--risk", "R3"]).exits(0);
    assert_eq!(host.psql("SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn crash_of_one_backend_is_reported_although_the_server_recovered() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.postgres("");
    // a checkpointer as old as its server is no crash: five seconds distinguish them
    let age = "SELECT now() - pg_postmaster_start_time() > interval '6 s'";
    eventually(30, "the server is six seconds old", || (host.psql(age) == "t").then_some(()));
    host.session("victim", "SELECT 1");
    let victim = host.backend("victim");
    host.sh(&format!("kill -KILL {victim}"));
    eventually(30, "the server has recovered", || {
        (host.sh("psql -h /run/postgresql -U app shop -Atc 'SELECT 1' 2>&1 || true") == "1").then_some(())
    });
    let run = host.run_runbooks(&["postgres"]);
    let crash = "postgres.crash-restart postgres:127.0.0.1:5432";
    run.roots(&[crash]).mentions(crash, &["signal 9", "crash recovery"]);
}

#[test]
fn exhausted_pool_of_pgbouncer_is_reported() {
    let Some(host) = Host::with_servers(&["psql", "pgbouncer"]) else { return };
    host.postgres("");
    host.sh("mkdir -p /run/pgbouncer; chown postgres /run/pgbouncer; cat > /mnt/pgbouncer.ini <<'EOF'
[databases]
shop = host=/run/postgresql dbname=shop user=app pool_size=1
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
unix_socket_dir = /run/pgbouncer
auth_type = any
pool_mode = session
EOF");
    host.spawn(
        "setpriv",
        &["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "pgbouncer", "-q", "/mnt/pgbouncer.ini"],
    );
    eventually(30, "it listens", || host.sh("ss -Hltn").contains(":6432 ").then_some(()));
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[]);
    assert_eq!(verdict(&run, "postgres.pgbouncer", "pgbouncer:127.0.0.1:6432"), "ok");
    for _ in 0..3 {
        host.spawn(
            "psql",
            &["-q", "-h", "/run/pgbouncer", "-p", "6432", "-U", "app", "shop", "-c", "SELECT 1", "-c", "\\! sleep 600"],
        );
    }
    let waiting = "psql -h /run/pgbouncer -p 6432 -U pgbouncer pgbouncer -Atc 'SHOW POOLS' | awk -F'|' '$1 == \"shop\" && $4 >= 2' | grep -c .";
    eventually(30, "two wait", || {
        host.command("bash").args(["-c", waiting]).output().ok().filter(|o| o.status.success()).map(|_| ())
    });
    let pool = "postgres.pgbouncer pgbouncer:127.0.0.1:6432";
    eventually(30, "the clients have waited a second", || host.run_runbooks(&["postgres"]).has(pool).then_some(()));
    host.run_runbooks(&["postgres"]).roots(&[pool]).mentions(pool, &["2 clients wait", "shop as app", "1 busy"]);
}
