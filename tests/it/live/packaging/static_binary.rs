//! The static binary, if it is built (`packaging/build-static`); `tests/run ports` runs it on all distributions and engines.

use std::path::{Path, PathBuf};

use crate::lab::Host;

/// The newest static binary: `OPSCTL_STATIC`, or that of the ordinary target directory.
fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("OPSCTL_STATIC").map(PathBuf::from);
    let target = Path::new(super::ROOT).join(format!("target/{}-unknown-linux-gnu", std::env::consts::ARCH));
    let built = ["dist", "release"].map(|profile| target.join(profile).join("opsctl"));
    let existing = named.into_iter().chain(built).filter(|path| path.is_file());
    existing.max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
}

/// Neither libraries nor `getent`, no accounts, no hosts file.
#[test]
fn static_binary_runs_in_an_empty_root() {
    let Some(binary) = binary() else {
        eprintln!("left out: the static binary is not built");
        return;
    };
    let Some(host) = Host::without_engine() else { return };
    let report = host.sh(&format!(
        "root=/run/lab/empty; mkdir -p $root/proc $root/sys $root/dev $root/tmp; install -m 755 {} $root/opsctl
         mount -t proc proc $root/proc; mount --rbind /sys $root/sys; mount --rbind /dev $root/dev
         chroot $root /opsctl diagnose --format json || [ $? -le 3 ]",
        binary.display()
    ));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let ran =
        |runbook: &str| report["checks"].as_array().unwrap().iter().any(|c| c["runbook"] == runbook && c["verdict"] == "ok");
    assert!(["cpu", "disk", "memory"].into_iter().all(ran), "{report:#}");
}
