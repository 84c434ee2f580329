//! Settings in unit files of this host that systemd ignores: it logs them when it loads the file, and starts the unit without
//! them.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{Since, journal};
use crate::probe::{Io, ProbeError, blocking};

/// `SD_MESSAGE_INVALID_CONFIGURATION` of systemd/sd-messages.h.
const INVALID_CONFIGURATION: &str = "MESSAGE_ID=c772d24e9a884cbeb9ea12625c306c01";

/// Directories of the administrator. Packages for several versions of systemd contain settings that an older one does not know.
const LOCAL: &[&str] = &["/etc/systemd/system/", "/run/systemd/system/", "/usr/local/lib/systemd/system/"];

/// Limit of lines.
const MAX_LINES: usize = 500;

/// Timeout of reading the metadata of the unit files.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// A line of a unit file or drop-in that systemd ignores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IgnoredSetting {
    /// The unit of the file: `app.service`, `app@.service`.
    pub unit: String,
    /// Path of the file.
    pub file: String,
    /// Number of the line.
    pub line: u32,
    /// The reason: `Unknown key name 'Restrat' in section 'Service'`.
    pub text: String,
}

/// The lines that systemd ignored when it loaded the present unit files. A file that was changed since was not loaded yet or has
/// been corrected.
pub async fn ignored_settings() -> Result<Vec<IgnoredSetting>, ProbeError> {
    let lines = journal(&[INVALID_CONFIGURATION, "_PID=1"], Since::Boot, MAX_LINES).await?;
    let found: Vec<(Timestamp, IgnoredSetting)> =
        lines.iter().filter(|l| l.by_systemd).filter_map(|l| Some((l.at, parse(&l.text)?))).collect();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    blocking::run("unit files", LOCAL[0], READ_TIMEOUT, move |io| current(io, found)).await
}

/// Those of files that exist and were not changed since, each once.
fn current(io: &Io, found: Vec<(Timestamp, IgnoredSetting)>) -> Vec<IgnoredSetting> {
    let mut current: Vec<IgnoredSetting> = Vec::new();
    for (at, setting) in found {
        // the change time also shows a file that was replaced by an older one
        let changed = io.metadata(&setting.file).ok().and_then(|m| Timestamp::from_second(m.ctime()).ok());
        if changed.is_some_and(|changed| changed <= at) && !current.contains(&setting) {
            current.push(setting);
        }
    }
    current
}

/// `/etc/systemd/system/app.service:7: Unknown key name 'Restrat' in section 'Service', ignoring.`
pub(super) fn parse(text: &str) -> Option<IgnoredSetting> {
    let (place, message) = text.split_once(": ")?;
    let (file, line) = place.rsplit_once(':')?;
    let below = LOCAL.iter().find_map(|directory| file.strip_prefix(directory))?;
    let lower = message.to_lowercase();
    if !lower.contains("ignoring") && !lower.starts_with("unknown lvalue") {
        return None;
    }
    // a drop-in is in a directory of its unit
    let first = below.split('/').next().unwrap_or_default();
    let unit = first.strip_suffix(".d").unwrap_or(first);
    let reason = message.trim_end_matches('.').replace(", ignoring:", ":");
    let reason =
        [", ignoring", ". Ignoring", ", ignoring line"].iter().find_map(|end| reason.strip_suffix(end)).unwrap_or(&reason);
    Some(IgnoredSetting { unit: unit.to_owned(), file: file.to_owned(), line: line.parse().ok()?, text: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn ignored_lines_of_local_files_are_parsed() {
        for (text, unit, line, reason) in [
            (
                "/etc/systemd/system/app.service:7: Unknown key name 'Restrat' in section 'Service', ignoring.",
                "app.service",
                7,
                "Unknown key name 'Restrat' in section 'Service'",
            ),
            (
                "/etc/systemd/system/app.service:7: Unknown key 'Restrat' in section [Service], ignoring.",
                "app.service",
                7,
                "Unknown key 'Restrat' in section [Service]",
            ),
            (
                "/etc/systemd/system/app@.service.d/limits.conf:2: Failed to parse resource value, ignoring: 4 GB",
                "app@.service",
                2,
                "Failed to parse resource value: 4 GB",
            ),
            ("/etc/systemd/system/a.service:1: Unknown section 'Servce'. Ignoring.", "a.service", 1, "Unknown section 'Servce'"),
            (
                "/etc/systemd/system/a.service:3: Unknown lvalue 'X' in section 'Unit'",
                "a.service",
                3,
                "Unknown lvalue 'X' in section 'Unit'",
            ),
        ] {
            let parsed = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((parsed.unit.as_str(), parsed.line, parsed.text.as_str()), (unit, line, reason));
        }
        for text in [
            // a package for a newer systemd
            "/usr/lib/systemd/system/app.service:7: Unknown key name 'RestartMode' in section 'Service', ignoring.",
            // in use, with another value
            "/etc/systemd/system/a.service:9: Standard output type syslog is obsolete, automatically updating to journal.",
            "app.service: Failed with result 'exit-code'.",
            "",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn changed_and_removed_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.service");
        std::fs::write(&file, "").unwrap();
        let setting = |path: &std::path::Path| IgnoredSetting { file: path.display().to_string(), ..IgnoredSetting::default() };
        let of = |path: &std::path::Path, at: i64| {
            current(&Io::for_test(), vec![(Timestamp::from_second(at).unwrap(), setting(path)); 2]).len()
        };
        let later = 4_000_000_000;
        assert_eq!((of(&file, later), of(&file, 1), of(&dir.path().join("removed"), later)), (1, 0, 0));
    }
}
