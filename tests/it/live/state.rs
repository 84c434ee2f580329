//! State that would be lost.

use crate::lab::{Config, Host, Rootfs, eventually};

#[test]
fn database_without_a_volume_is_reported() {
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
    run.roots(&[alloy, db]).mentions(alloy, &["/var/lib/alloy/data"]);
    assert_eq!(run.finding(db).severity, opsctl_core::model::Severity::Crit);
}

/// Directories of the engine are named by hashes: disk usage is reported by container name.
#[test]
fn disk_usage_of_the_engine_is_attributed_to_its_container() {
    let Some(host) = Host::with(&Config { docker_disk: 200, ..Config::default() }) else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("hoarder", &["app:1", "sh", "-c", "dd if=/dev/zero of=/tmp/cache bs=1M count=500; exec sleep 1000"]);
    let full = "disk.space mount:/var/lib/docker";
    let run = eventually(60, "the disk is full", || Some(host.run_runbooks(&["container", "disk"])).filter(|run| run.has(full)));
    run.roots(&[full]).mentions(full, &["(/tmp in the writable layer of hoarder)"]);
}
