//! Crontabs of the host.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use super::Io;

/// Crontabs that are files (crontab(5), anacrontab(5)).
const FILES: &[&str] = &["/etc/crontab", "/etc/anacrontab"];

/// Directories of crontabs and of scripts that cron runs; the spools of Debian, Red Hat (`/var/spool/cron`), SUSE (`tabs`) and of
/// `BusyBox` on Alpine (`/etc/crontabs`, to which `/var/spool/cron/crontabs` is a link there), and Alpine's scripts (`/etc/periodic`).
const DIRECTORIES: &[&str] = &[
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
    "/var/spool/cron",
    "/var/spool/cron/tabs",
    "/etc/crontabs",
    "/etc/periodic/15min",
    "/etc/periodic/hourly",
    "/etc/periodic/daily",
    "/etc/periodic/weekly",
    "/etc/periodic/monthly",
];

/// Limit of files per directory.
const MAX_FILES: usize = 200;

/// Limit of characters per line.
const MAX_LINE: usize = 300;

/// The lines of all crontabs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crontabs {
    /// Lines without comments.
    pub lines: Vec<CronLine>,
    /// A crontab or directory could not be read for lack of rights.
    pub denied: bool,
}

/// A line of a crontab, or of a script that cron runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronLine {
    /// The line, trimmed and cut.
    pub text: String,
    /// Its file tests for systemd: Debian's packages leave the job to their timer there.
    pub defers_to_systemd: bool,
}

/// Reads all crontabs of the host.
#[must_use]
pub fn read(io: &Io) -> Crontabs {
    read_from(io, FILES, DIRECTORIES)
}

fn read_from(io: &Io, files: &[&str], directories: &[&str]) -> Crontabs {
    let mut found = Crontabs::default();
    let mut files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
    // a directory and a link to it are one
    let mut known = HashSet::new();
    for directory in directories {
        if io.metadata(directory).is_ok_and(|m| !known.insert((m.dev(), m.ino()))) {
            continue;
        }
        match io.read_dir(directory) {
            Ok(entries) => {
                files.extend(entries.flatten().filter_map(|e| e.path().to_str().map(str::to_owned)).take(MAX_FILES));
            }
            Err(e) => found.denied |= e.kind() == ErrorKind::PermissionDenied,
        }
    }
    for file in files {
        match io.read_lossy(&file) {
            Ok(text) => found.lines.extend(lines(&text)),
            Err(e) => found.denied |= e.kind() == ErrorKind::PermissionDenied,
        }
    }
    found
}

fn lines(text: &str) -> impl Iterator<Item = CronLine> + '_ {
    let defers_to_systemd = text.contains("-d /run/systemd/system");
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(move |l| CronLine { text: l.chars().take(MAX_LINE).collect(), defers_to_systemd })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    // Alpine: /var/spool/cron/crontabs is a link to /etc/crontabs
    #[test]
    fn spool_that_is_a_link_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(path("crontabs")).unwrap();
        std::fs::write(path("crontabs/root"), "# min hour\n0 3 * * * certbot renew\n").unwrap();
        std::os::unix::fs::symlink(path("crontabs"), path("spool")).unwrap();
        let found = read_from(&Io::for_test(), &[], &[&path("spool"), &path("crontabs"), &path("none")]);
        assert_eq!(found.lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["0 3 * * * certbot renew"]);
        assert!(!found.denied);
    }

    #[test]
    fn spools_of_the_distributions_are_read() {
        for spool in ["/var/spool/cron/crontabs", "/var/spool/cron", "/var/spool/cron/tabs", "/etc/crontabs"] {
            assert!(DIRECTORIES.contains(&spool), "{spool}");
        }
    }

    #[test]
    fn script_of_debian_defers_to_systemd() {
        let script = "#!/bin/sh\n# skip in favour of systemd timer\nif [ -d /run/systemd/system ]; then\n  exit 0\nfi\n/usr/sbin/logrotate /etc/logrotate.conf\n";
        assert!(lines(script).any(|l| l.text.contains("sbin/logrotate") && l.defers_to_systemd));
        let own = "MAILTO=root\n\n0 3 * * * root /usr/sbin/logrotate -f /etc/logrotate.conf\n";
        let own: Vec<CronLine> = lines(own).collect();
        assert_eq!((own.len(), own[1].defers_to_systemd), (2, false));
    }
}
