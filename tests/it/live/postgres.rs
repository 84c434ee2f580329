//! PostgreSQL in recovery, on a full disk, after the crash of a backend, at its limits, behind PgBouncer, and without its standby.

use opsctl_core::model::Severity;

use crate::lab::{Host, MACHINE, Rootfs, eventually, installed};

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

/// A leader election (electric-sql/electric#3283), and a sequence without an owner in a database that is not the busiest.
#[test]
fn standbys_of_an_advisory_lock_are_no_fault_and_sequences_of_all_databases_are_read() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.configure("[runbooks.postgres]\nblocked_warn_s = 0.1\nblocked_crit_s = 0.2\n");
    host.postgres("");
    for _ in 0..3 {
        host.session("job", "SELECT pg_advisory_lock(7)");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND clock_timestamp() - query_start > interval '0.3 s'";
    eventually(30, "two standbys wait", || (host.psql(waiting) == "2").then_some(()));
    let blocked = "postgres.blocked postgres:127.0.0.1:5432";
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[]).mentions(blocked, &["2 sessions wait for the advisory lock of app (job, pid", "from local"]);
    assert_eq!(run.finding(blocked).severity, Severity::Info);
    host.psql("CREATE DATABASE billing OWNER app");
    let billing = "CREATE SEQUENCE order_id; CREATE TABLE orders (id int DEFAULT nextval('order_id')); SELECT setval('order_id', 2147480000)";
    host.sh(&format!("psql -h /run/postgresql -U app billing -Atqc \"{billing}\""));
    let sequence = "postgres.sequence postgres:127.0.0.1:5432";
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[sequence]).mentions(sequence, &["public.order_id of billing", "orders.id"]);
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
    assert_eq!(run.check("postgres.pgbouncer", "pgbouncer:127.0.0.1:6432").verdict, "ok");
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

/// Starts a session of the role `app` that runs this statement, and waits until it runs.
fn running(host: &Host, name: &str, sql: &str) {
    let connection = format!("host=/run/postgresql user=app dbname=shop application_name={name}");
    host.spawn("bash", &["-c", "exec psql -q -d \"$0\" -c \"$1\" -c '\\! sleep 600'", &connection, sql]);
    let active = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND state = 'active'");
    eventually(30, "it runs", || (host.psql(&active) != "0").then_some(()));
}

#[test]
fn one_of_several_long_queries_is_cancelled() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.configure("[runbooks.postgres]\nquery_warn_s = 1.0\nquery_crit_s = 2.0\n");
    host.postgres("");
    running(&host, "first", "SELECT pg_sleep(600)");
    running(&host, "second", "SELECT pg_sleep(600)");
    let offered = || host.run_runbooks(&["postgres"]).report().fixes.iter().filter(|f| f.id == "pg.cancel").count();
    eventually(30, "both are long", || (offered() == 2).then_some(()));
    let (first, second) = (host.backend("first"), host.backend("second"));
    let listed = host.opsctl(&["fix", "pg.cancel", "127.0.0.1:5432"]);
    for pid in [&first, &second] {
        assert!(listed.stderr.contains(&format!("opsctl fix pg.cancel 127.0.0.1:5432 pid {pid}")), "{}", listed.stderr);
    }
    host.fix("pg.cancel", "127.0.0.1:5432", &["pid", &first]).exits(0);
    let state = |name: &str| host.psql(&format!("SELECT state FROM pg_stat_activity WHERE application_name = '{name}'"));
    assert_eq!((state("first").as_str(), state("second").as_str()), ("idle", "active"));
}

#[test]
fn commit_without_its_synchronous_standby_is_critical_and_not_cancelled() {
    let Some(host) = Host::with_servers(&["psql"]) else { return };
    host.configure("[runbooks.postgres]\nquery_warn_s = 1.0\nquery_crit_s = 2.0\n");
    host.postgres("");
    host.psql("ALTER SYSTEM SET synchronous_standby_names = 's1'");
    host.psql("SELECT pg_reload_conf()");
    let missing = "postgres.sync-standby-missing postgres:127.0.0.1:5432";
    eventually(30, "it is in force", || host.run_runbooks(&["postgres"]).has(missing).then_some(()));
    running(&host, "writer", "CREATE TABLE t (a int)");
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND clock_timestamp() - query_start > interval '3 s'";
    eventually(30, "its commit waits", || (host.psql(waiting) == "1").then_some(()));
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[missing]).mentions(missing, &["1 commit waits", "lacks s1"]).must_not(&["postgres.long-query"]);
    assert!(run.report().fixes.iter().all(|f| f.id != "pg.cancel"), "{:?}", run.report().fixes);
}
