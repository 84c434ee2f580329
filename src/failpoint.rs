//! Points at which tests kill or pause opsctl. A release build has none.

/// Terminates as by `kill -9` when `$OPSCTL_FAILPOINT` names this point. When `$OPSCTL_FAILPOINT_PAUSE` is `NAME=FILE` and names
/// it, creates the file and waits until it is removed.
#[allow(clippy::disallowed_methods, reason = "not in a release build")]
pub(crate) fn failpoint(name: &str) {
    #[cfg(debug_assertions)]
    {
        if std::env::var_os("OPSCTL_FAILPOINT").is_some_and(|v| v == name) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        if let Some((point, file)) = std::env::var("OPSCTL_FAILPOINT_PAUSE").ok().as_deref().and_then(|v| v.split_once('='))
            && point == name
            && std::fs::write(file, name).is_ok()
        {
            while std::path::Path::new(file).exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
