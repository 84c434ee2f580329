//! A setting of the kernel, changed now and for every boot.

use opsctl_core::model::Action;

/// Where the settings of opsctl are kept for the next boot (sysctl.d(5)).
pub(crate) const FILE: &str = "/etc/sysctl.d/60-opsctl.conf";

/// What makes `key` the wanted value now and at every boot, and what makes it again what it is now.
pub(crate) fn set(key: &str, now: &str, wanted: &str) -> (Vec<Action>, Vec<Action>) {
    let (path, line) = (FILE.to_owned(), format!("{key} = {wanted}"));
    let value = |value: &str| Action::SetSysctl { key: key.to_owned(), value: value.to_owned() };
    (
        vec![Action::AddLine { path: path.clone(), line: line.clone() }, value(wanted)],
        vec![value(now), Action::RemoveLine { path, line }],
    )
}
