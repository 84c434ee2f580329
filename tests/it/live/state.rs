//! State that would be lost.

use crate::lab::{Host, Rootfs};

#[test]
fn a_known_service_without_a_volume_is_told() {
    let Some(host) = Host::start() else { return };
    host.image("grafana/alloy:v1", Rootfs::Scratch, &[]);
    host.image("postgres:15", Rootfs::Scratch, &["ENV PGDATA=/var/lib/postgresql/data"]);
    let run = ["fixture", "wait-term"];
    host.run("alloy", &[&["grafana/alloy:v1"], &run[..]].concat());
    host.run("alloy-kept", &[&["-v", "alloy:/var/lib/alloy/data", "grafana/alloy:v1"], &run[..]].concat());
    host.run("db-kept", &[&["-v", "pg:/var/lib/postgresql/data", "postgres:15"], &run[..]].concat());
    host.run("db", &[&["postgres:15"], &run[..]].concat());
    let (alloy, db) = ("container.ephemeral-state container:alloy", "container.ephemeral-state container:db");
    let run = host.diagnose();
    run.roots(&[alloy, db]).says(alloy, &["/var/lib/alloy/data"]);
    assert_eq!(run.finding(db).severity, opsctl_core::model::Severity::Crit);
}
