//! Setting a kernel parameter, now and at every boot.

use opsctl_core::model::Action;

/// The file with the settings of opsctl (sysctl.d(5)).
pub(crate) const FILE: &str = "/etc/sysctl.d/60-opsctl.conf";

/// The actions that set `key` to the required value now and at every boot, and the actions that revert them.
pub(crate) fn set(key: &str, now: &str, required: &str) -> (Vec<Action>, Vec<Action>) {
    let (path, line) = (FILE.to_owned(), format!("{key} = {required}"));
    let value = |value: &str| Action::SetSysctl { key: key.to_owned(), value: value.to_owned() };
    (
        vec![Action::AddLine { path: path.clone(), line: line.clone() }, value(required)],
        vec![value(now), Action::RemoveLine { path, line }],
    )
}
