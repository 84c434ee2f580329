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
