//! Control: PostgreSQL with background workers and a long backup (N12).

use crate::lab::{Host, eventually};

#[test]
fn background_workers_and_a_long_backup_are_ok() {
    let Some(host) = Host::with_servers(&["psql", "pg_dump"]) else { return };
    // a limit that applies to sessions and not to backups
    host.configure("[runbooks.postgres]\nquery_warn_s = 0.5\n");
    host.postgres("max_connections = 20");
    host.session("setup", "CREATE TABLE big AS SELECT g, repeat('x', 1000) AS t FROM generate_series(1, 50000) AS g");
    // without a reader of the FIFO the backup blocks
    host.sh("mkfifo /mnt/dump");
    host.spawn("bash", &["-c", "exec 3<> /mnt/dump; exec pg_dump -h /run/postgresql -U app shop > /mnt/dump"]);
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND state = 'active' AND now() - query_start > interval '1 s'";
    eventually(30, "the backup is running", || (host.psql(copying) == "1").then_some(()));
    let run = host.run_runbooks(&["postgres"]);
    run.roots(&[]);
    for check in ["up", "connections", "activity", "wal", "vacuum", "replication", "integrity", "restarts", "disk"] {
        run.verdict(&format!("postgres.{check}"), "postgres:127.0.0.1:5432", "ok");
    }
    host.leaves(&run, "");
}
