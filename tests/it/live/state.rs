//! State that would be lost.

use crate::lab::{Config, Host, Rootfs, eventually};

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

/// The engine's folders are named by hashes: what fills them is told by the name a person knows.
#[test]
fn what_fills_the_engine_s_disk_is_told_by_the_container_it_belongs_to() {
    let Some(host) = Host::with(&Config { docker_disk: 200, ..Config::default() }) else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("hoarder", &["app:1", "sh", "-c", "dd if=/dev/zero of=/tmp/cache bs=1M count=500; exec sleep 1000"]);
    let full = "disk.space mount:/var/lib/docker";
    let run = eventually(60, "the disk is full", || Some(host.ask(&["container", "disk"])).filter(|run| run.has(full)));
    run.roots(&[full]).says(full, &["(/tmp in the own layer of hoarder)"]);
}
