//! An ordinary user without groups who attacks, and the directories of the host.

use std::fs;

use crate::lab::{Host, Run};

/// Uid and gid of the attacker.
pub(super) const UID: u32 = 4711;

/// The home directory of the attacker.
pub(super) const HOME: &str = "/home/mallory";

/// A host with an attacker. `/srv` is root's alone, `/mnt` is a directory that all can write (mode 1777).
pub(super) fn host() -> Option<Host> {
    let host = Host::without_engine()?;
    host.sh(&format!(
        "for d in /home /srv /opt; do mount -t tmpfs -o mode=755 tmpfs $d; done; mkdir {HOME}; chown {UID}:{UID} {HOME}; chmod 755 {HOME}"
    ));
    Some(host)
}

/// What a shell script of the attacker prints; it must succeed.
#[track_caller]
pub(super) fn as_user(host: &Host, script: &str) -> String {
    host.sh(&format!("exec setpriv --reuid {UID} --regid {UID} --clear-groups bash -ec '{}'", script.replace('\'', r"'\''")))
}

/// Writes a file of root.
#[track_caller]
pub(super) fn write(host: &Host, path: &str, mode: &str, text: &str) {
    let staged = host.path("staged");
    fs::write(&staged, text).unwrap();
    host.sh(&format!("mkdir -p $(dirname {path}); install -m {mode} {} {path}", staged.display()));
}

/// Writes a file of the attacker.
#[track_caller]
pub(super) fn write_as_user(host: &Host, path: &str, mode: &str, text: &str) {
    write(host, path, mode, text);
    host.sh(&format!("chown {UID}:{UID} {path} $(dirname {path})"));
}

/// opsctl as root with variables in its environment.
#[track_caller]
pub(super) fn opsctl_in(host: &Host, environment: &[(&str, &str)], args: &[&str]) -> Run {
    host.read(host.opsctl_command(&[], args).envs(environment.iter().copied()))
}

/// Everything that opsctl printed.
pub(super) fn said(run: &Run) -> String {
    format!("exit {}\n{}{}", run.code, run.stdout, run.stderr)
}
