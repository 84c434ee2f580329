//! The attacker, an unprivileged user without groups, and the directories of the host.

use std::fs;

use crate::lab::{Host, Run};

/// Uid and gid of the attacker.
pub(super) const UID: u32 = 4711;

/// The home directory of the attacker.
pub(super) const HOME: &str = "/home/mallory";

/// A host with an attacker. Only root can write to `/srv`, every user can write to `/mnt` (mode 1777).
pub(super) fn host() -> Option<Host> {
    let host = Host::without_engine()?;
    host.sh(&format!(
        "for d in /home /srv /opt; do mount -t tmpfs -o mode=755 tmpfs $d; done; mkdir {HOME}; chown {UID}:{UID} {HOME}; chmod 755 {HOME}"
    ));
    Some(host)
}

/// Output of a shell script of the attacker, which must succeed.
#[track_caller]
pub(super) fn as_user(host: &Host, script: &str) -> String {
    host.sh(&format!("exec setpriv --reuid {UID} --regid {UID} --clear-groups bash -ec '{}'", script.replace('\'', r"'\''")))
}

/// Writes a file owned by root.
#[track_caller]
pub(super) fn write(host: &Host, path: &str, mode: &str, text: &str) {
    let staged = host.path("staged");
    fs::write(&staged, text).unwrap();
    host.sh(&format!("mkdir -p $(dirname {path}); install -m {mode} {} {path}", staged.display()));
}

/// Writes a file owned by the attacker.
#[track_caller]
pub(super) fn write_as_user(host: &Host, path: &str, mode: &str, text: &str) {
    write(host, path, mode, text);
    host.sh(&format!("chown {UID}:{UID} {path} $(dirname {path})"));
}

/// Runs opsctl as root with the given environment variables.
#[track_caller]
pub(super) fn opsctl_in(host: &Host, environment: &[(&str, &str)], args: &[&str]) -> Run {
    host.read(host.opsctl_command(&[], args).envs(environment.iter().copied()))
}

/// Exit code and output of opsctl.
pub(super) fn output_of(run: &Run) -> String {
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}
