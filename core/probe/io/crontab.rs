//! Crontabs of the host.

use std::io::ErrorKind;

use super::Io;

/// Crontabs that are files (crontab(5), anacrontab(5)).
const FILES: &[&str] = &["/etc/crontab", "/etc/anacrontab"];

/// Directories of crontabs and of scripts that cron runs; the spools of Debian and of Red Hat.
const DIRECTORIES: &[&str] = &[
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
    "/var/spool/cron",
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
    let mut found = Crontabs::default();
    let mut files: Vec<String> = FILES.iter().map(|f| (*f).to_owned()).collect();
    for directory in DIRECTORIES {
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
    use super::*;

    #[test]
    fn script_of_debian_defers_to_systemd() {
        let script = "#!/bin/sh\n# skip in favour of systemd timer\nif [ -d /run/systemd/system ]; then\n  exit 0\nfi\n/usr/sbin/logrotate /etc/logrotate.conf\n";
        assert!(lines(script).any(|l| l.text.contains("sbin/logrotate") && l.defers_to_systemd));
        let own = "MAILTO=root\n\n0 3 * * * root /usr/sbin/logrotate -f /etc/logrotate.conf\n";
        let own: Vec<CronLine> = lines(own).collect();
        assert_eq!((own.len(), own[1].defers_to_systemd), (2, false));
    }
}
