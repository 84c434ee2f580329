//! Installed, upgraded and removed packages: from dpkg's log, with the requesting user from apt's history.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::logs;
use crate::model::{Change, ChangeKind};
use crate::probe::io::clock;
use crate::probe::{Io, ProbeError, blocking};

const DPKG_LOG: &str = "var/log/dpkg.log";
const APT_HISTORY: &str = "var/log/apt/history.log";

/// Size limit of a package's file list, in bytes; larger ones list documentation, not units.
const MAX_LIST_BYTES: u64 = 1 << 20;

pub(super) async fn read(since: Timestamp, timeout: Duration) -> Result<Vec<Change>, ProbeError> {
    blocking::run("changes of packages", "/var/log/dpkg.log", timeout, move |io| from_tree(io, Path::new("/"), since)).await?
}

fn from_tree(io: &Io, root: &Path, since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    let zone = clock::zone(io, root);
    let log = root.join(DPKG_LOG);
    let texts = match logs::texts(io, &log, since) {
        Ok(texts) => texts,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(ProbeError::Skip("dpkg keeps no log on this host".to_owned()));
        }
        Err(e) => return Err(ProbeError::io("changes of packages", log.display().to_string(), &e)),
    };
    // dpkg may be used without apt
    let history = logs::texts(io, &root.join(APT_HISTORY), since).unwrap_or_default();
    let runs: Vec<Run> = history.iter().flat_map(|t| runs(t, &zone)).collect();
    let mut found: Vec<Change> = Vec::new();
    for (at, package, description) in
        texts.iter().flat_map(|t| t.lines()).filter_map(|l| action(l, &zone)).filter(|(at, ..)| *at >= since)
    {
        let name = package.split(':').next().unwrap_or(package);
        let subject = format!("package:{name}");
        let removed = description == "purged" && found.iter().any(|c| c.subject == subject && c.what.starts_with("removed"));
        if removed {
            continue;
        }
        let by = runs.iter().rev().find(|r| r.from <= at && at <= r.until).and_then(|r| r.by.clone());
        let change = Change::new(at, ChangeKind::Package, subject, description).by(by).concerning(format!("etc:{name}"));
        found.push(units(io, root, package).iter().fold(change, |c, unit| {
            let stem = unit.split(['@', '.']).next().unwrap_or(unit);
            c.concerning(format!("unit:{unit}")).concerning(format!("etc:{stem}"))
        }));
    }
    Ok(found)
}

/// `2026-11-21 20:05:45 upgrade nginx:amd64 1.22.1-9 1.22.1-10`: time, package and action.
pub(super) fn action<'l>(line: &'l str, zone: &TimeZone) -> Option<(Timestamp, &'l str, String)> {
    let at = line.get(..19)?;
    let mut words = line.get(19..)?.split_whitespace();
    let (verb, package, old, new) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let description = match verb {
        "install" => format!("installed, version {new}"),
        "upgrade" => format!("upgraded from {old} to {new}"),
        "remove" => format!("removed, version {old}"),
        "purge" => "purged".to_owned(),
        _ => return None,
    };
    Some((clock::moment(at, zone)?, package, description))
}

/// A run of apt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    from: Timestamp,
    until: Timestamp,
    by: Option<String>,
}

/// The runs in apt's history. Of the command line only the program is kept: arguments may contain secrets.
pub(super) fn runs(text: &str, zone: &TimeZone) -> Vec<Run> {
    let read = |block: &str| {
        let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let moment = |name: &str| clock::moment(&field(name)?.split_whitespace().collect::<Vec<_>>().join(" "), zone);
        let from = moment("Start-Date:")?;
        // a killed run has no end; dpkg may take long
        let until = moment("End-Date:").or_else(|| from.checked_add(SignedDuration::from_hours(1)).ok())?;
        let person = field("Requested-By:").and_then(|v| v.split_whitespace().next());
        let program = field("Commandline:").and_then(|v| v.split_whitespace().next()?.rsplit('/').next());
        let by = match (person, program) {
            (Some(person), Some(program)) => Some(format!("{person}, {program}")),
            (one, other) => one.or(other).map(str::to_owned),
        };
        Some(Run { from, until, by })
    };
    text.split("\n\n").filter_map(read).collect()
}

/// The systemd units of a package.
pub(super) fn units(io: &Io, root: &Path, package: &str) -> Vec<String> {
    let name = package.split(':').next().unwrap_or(package);
    // an invalid name must not escape the directory
    if name.contains('/') || package.contains('/') {
        return Vec::new();
    }
    let directory = root.join("var/lib/dpkg/info");
    let list = [format!("{name}.list"), format!("{package}.list")].into_iter().find_map(|file| {
        let path = directory.join(file);
        let small = io.metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= MAX_LIST_BYTES);
        small.then(|| io.read_lossy(path).ok()).flatten()
    });
    let unit = |line: &str| {
        let name = line.strip_prefix("/usr").unwrap_or(line).strip_prefix("/lib/systemd/system/")?;
        (name.ends_with(".service") && !name.contains('/')).then(|| name.to_owned())
    };
    list.iter().flat_map(|l| l.lines()).filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    /// Written by dpkg 1.21 and apt 2.6.
    const LOG: &str = "2026-11-21 20:05:44 startup archives unpack\n\
        2026-11-21 20:05:44 install prometheus-alertmanager:amd64 <none> 0.25.0-1+b4\n\
        2026-11-21 20:05:44 status half-installed prometheus-alertmanager:amd64 0.25.0-1+b4\n\
        2026-11-21 20:05:45 trigproc man-db:amd64 2.11.2-2 <none>\n\
        2026-11-21 20:07:01 upgrade perl:amd64 5.36.0-7+deb12u2 5.36.0-7+deb12u4\n\
        2026-11-21 20:08:01 remove lab:all 1.0 <none>\n\
        2026-11-21 20:08:02 purge lab:all 1.0 <none>\n";
    const HISTORY: &str = "\nStart-Date: 2026-11-21  20:05:44\n\
        Commandline: /usr/bin/apt-get -qq install -o Acquire::http::Proxy=http://u:canary@p prometheus-alertmanager\n\
        Requested-By: alice (1000)\n\
        Install: prometheus-alertmanager:amd64 (0.25.0-1+b4)\nEnd-Date: 2026-11-21  20:05:48\n\n\
        Start-Date: 2026-11-21  20:07:00\nCommandline: /usr/bin/unattended-upgrade\nEnd-Date: 2026-11-21  20:07:03\n";

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["var/log/apt", "var/lib/dpkg/info"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let put = |path: &str, text: &str| std::fs::write(root.path().join(path), text).unwrap();
        put(DPKG_LOG, LOG);
        put(APT_HISTORY, HISTORY);
        put(
            "var/lib/dpkg/info/prometheus-alertmanager.list",
            "/.\n/lib/systemd/system/prometheus-alertmanager.service\n/usr/bin/amtool\n",
        );
        root
    }

    #[test]
    fn package_comes_from_dpkg_log_and_user_from_apt_history() {
        let root = tree();
        let found = from_tree(&Io::for_test(), root.path(), Timestamp::UNIX_EPOCH).unwrap();
        let described: Vec<String> = found.iter().map(|c| format!("{} {}", c.at, c.summary())).collect();
        assert_eq!(
            described,
            [
                "2026-11-21T20:05:44Z package:prometheus-alertmanager installed, version 0.25.0-1+b4 (by alice, apt-get)",
                "2026-11-21T20:07:01Z package:perl upgraded from 5.36.0-7+deb12u2 to 5.36.0-7+deb12u4 (by unattended-upgrade)",
                "2026-11-21T20:08:01Z package:lab removed, version 1.0",
            ]
        );
        assert!(found[0].concerns.contains(&"unit:prometheus-alertmanager.service".to_owned()), "{found:?}");
        let late = from_tree(&Io::for_test(), root.path(), "2026-11-21T20:08:00Z".parse().unwrap()).unwrap();
        assert_eq!(late.len(), 1);
        std::fs::remove_file(root.path().join(DPKG_LOG)).unwrap();
        assert!(matches!(from_tree(&Io::for_test(), root.path(), Timestamp::UNIX_EPOCH), Err(ProbeError::Skip(_))));
    }

    #[test]
    fn log_times_use_the_host_time_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let (at, ..) = action("2026-11-21 20:05:44 install a:all <none> 1", &zone).unwrap();
        assert_eq!(at.to_string(), "2026-11-21T19:05:44Z");
    }
}
