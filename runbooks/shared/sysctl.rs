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

/// The file that overrides [`FILE`] at the next boot, with its value: the file read last takes effect (sysctl.d(5)).
pub(crate) fn later<'a>(files: &'a [(String, String)], required: &str) -> Option<&'a (String, String)> {
    // the order is that of the file names, regardless of their directories
    let name = |file: &str| file.rsplit('/').next().unwrap_or_default().to_owned();
    let last = files.iter().rfind(|(file, _)| name(file) > name(FILE) || file == "/etc/sysctl.conf")?;
    (last.1 != required).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_file_overrides_the_file_of_opsctl() {
        let files = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), "0".to_owned())).collect::<Vec<_>>();
        assert_eq!(later(&files(&["/usr/lib/sysctl.d/50-x.conf", "/etc/sysctl.d/10-a.conf"]), "1"), None);
        assert!(later(&files(&["/etc/sysctl.d/99-b.conf"]), "1").is_some_and(|(file, _)| file.ends_with("99-b.conf")));
        assert!(later(&files(&["/etc/sysctl.conf"]), "1").is_some() && later(&files(&["/etc/sysctl.conf"]), "0").is_none());
    }
}
