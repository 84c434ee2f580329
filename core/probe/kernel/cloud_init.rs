//! The boot status of cloud-init, read from the files that `cloud-init status` reads (cloudinit/cmd/status.py) but without
//! starting Python.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::user_data::{self, UserData};
use crate::probe::io::clock;
use crate::probe::{Io, ProbeError, UNEXPECTED_FORMAT};

/// The stages of cloud-init, by old and new names. Since 24.3 one process in `cloud-init-main.service` runs all of them.
pub const UNITS: &[&str] = &[
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init-network.service",
    "cloud-init-main.service",
    "cloud-config.service",
    "cloud-final.service",
];

/// The progress of cloud-init.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Disabled by configuration.
    Disabled,
    /// No stage has started, or its generator has not run yet.
    #[default]
    NotStarted,
    /// A stage is running.
    Running,
    /// All stages have finished, with or without errors.
    Done,
}

/// The status of cloud-init in the current boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudInit {
    /// Its progress.
    pub progress: Progress,
    /// The reason for being disabled.
    pub disabled_by: String,
    /// The running stage: `init-local`, `init`, `modules-config`, `modules-final`.
    pub stage: String,
    /// Its data source: `DataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud]`.
    pub datasource: String,
    /// Errors that made a stage fail; `cloud-init status` exits with 1.
    pub errors: Vec<String>,
    /// Recoverable errors by log level (since 23.4); `cloud-init status` exits with 2.
    pub recoverable: BTreeMap<String, Vec<String>>,
    /// Whether this version reports them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reports_recoverable: bool,
    /// Start time of its first stage.
    pub started: Option<Timestamp>,
    /// The last lines of its output log, which contains the output of user scripts.
    pub output: Vec<String>,
    /// Warnings about the user data in the log of this boot, without quotations, for versions that do not report recoverable
    /// errors.
    pub warnings: Vec<String>,
    /// The user data.
    pub user_data: UserData,
    /// The configuration names no data source on purpose: `datasource_list: [ None ]`, as installers write it.
    pub without_source: bool,
}

/// The files of cloud-init; below another root only for recorded trees.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Files {
    /// A tree recorded elsewhere.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The status of cloud-init; `None` if it is not installed.
    pub fn read(&self, io: &Io) -> Result<Option<CloudInit>, ProbeError> {
        let run = self.root.join("run/cloud-init");
        let installed = ["usr/bin/cloud-init", "etc/cloud/cloud.cfg"].iter().any(|f| io.exists(self.root.join(f)));
        if !installed && !io.is_dir(&run) {
            return Ok(None);
        }
        let mut found = CloudInit::default();
        let status = run.join("status.json");
        match io.read_lossy(&status) {
            Ok(text) => {
                let parsed: Option<Value> = serde_json::from_str(&text).ok();
                let v1 = parsed.as_ref().and_then(|p| p.get("v1")?.as_object());
                let wrong = || ProbeError::failed("the boot's status", status.display().to_string(), UNEXPECTED_FORMAT);
                found.fill(v1.ok_or_else(wrong)?, clock::boot_time());
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(ProbeError::io("the boot's status", status.display().to_string(), &e)),
        }
        found.disabled_by = self.disabled_by(io, &run).unwrap_or_default();
        found.progress = if !found.disabled_by.is_empty() {
            Progress::Disabled
        } else if io.exists(&status) && !io.exists(run.join("result.json")) {
            Progress::Running
        } else if found.started.is_some() {
            Progress::Done
        } else {
            Progress::NotStarted
        };
        found.user_data = user_data::read(io, &self.root);
        if !found.reports_recoverable {
            found.warnings = warnings(io, &self.root.join("var/log/cloud-init.log"), found.started);
        }
        if found.datasource.starts_with("DataSourceNone") {
            found.without_source = self.is_without_source(io);
        }
        if !found.errors.is_empty() {
            found.output = tail(io, &self.root.join("var/log/cloud-init-output.log"), 10);
        }
        Ok(Some(found))
    }

    /// Whether a file of the configuration names no data source.
    fn is_without_source(&self, io: &Io) -> bool {
        let directory = self.root.join("etc/cloud/cloud.cfg.d");
        let files = io.read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let config = files.filter(|path| path.extension().is_some_and(|e| e == "cfg")).take(MAX_CONFIG_FILES);
        config.filter_map(|path| io.read_lossy(path).ok()).any(|text| {
            let values = text.lines().filter_map(|line| line.trim().strip_prefix("datasource_list:"));
            values
                .map(|v| v.trim_matches(|c: char| matches!(c, '[' | ']' | '"' | '\'') || c.is_whitespace()))
                .any(|v| v == "None")
        })
    }

    fn disabled_by(&self, io: &Io, run: &Path) -> Option<String> {
        let cmdline = io.read_lossy(self.root.join("proc/cmdline")).unwrap_or_default();
        let has = |word: &str| cmdline.split_whitespace().any(|w| w == word);
        if has("cloud-init=enabled") {
            None
        } else if io.exists(self.root.join("etc/cloud/cloud-init.disabled")) {
            Some("/etc/cloud/cloud-init.disabled exists".to_owned())
        } else if has("cloud-init=disabled") {
            Some("the kernel command line contains cloud-init=disabled".to_owned())
        } else if io.exists(run.join("disabled")) {
            Some("the cloud-init generator found no data source".to_owned())
        } else {
            None
        }
    }
}

impl CloudInit {
    /// Adds the stages of `v1`, the version of the file that all releases since 0.7.6 write. Every value is read by itself.
    fn fill(&mut self, v1: &Map<String, Value>, booted: Timestamp) {
        let text = |name: &str| v1.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (self.stage, self.datasource) = (text("stage"), text("datasource"));
        for stage in v1.values().filter_map(Value::as_object) {
            self.errors.extend(stage.get("errors").into_iter().flat_map(messages));
            // since 23.4
            self.reports_recoverable |= stage.contains_key("recoverable_errors");
            for (level, errors) in stage.get("recoverable_errors").and_then(Value::as_object).into_iter().flatten() {
                let found = messages(errors);
                if !found.is_empty() {
                    self.recoverable.entry(level.clone()).or_default().extend(found);
                }
            }
            let start = stage.get("start").and_then(|s| s.as_f64().or_else(|| s.as_str()?.parse().ok()));
            let start = start.filter(|s| *s > 0.0 && *s < 1e11).and_then(|s| moment(s, booted));
            self.started = [self.started, start].into_iter().flatten().min();
        }
    }
}

/// A list of messages, or a single one. A message in another form is shown as JSON: an error of an unknown shape is still an
/// error.
fn messages(value: &Value) -> Vec<String> {
    let shown = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match value {
        Value::Array(all) => all.iter().filter(|v| !v.is_null()).map(shown).collect(),
        Value::Null => Vec::new(),
        Value::Object(all) if all.is_empty() => Vec::new(),
        one => vec![shown(one)],
    }
}

/// Converts seconds since 1970, or since boot from 24.3 on.
fn moment(seconds: f64, booted: Timestamp) -> Option<Timestamp> {
    let since = if seconds < 1e8 { booted } else { Timestamp::UNIX_EPOCH };
    since.checked_add(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

/// Files of the configuration that are read (judgement).
const MAX_CONFIG_FILES: usize = 50;

/// Bytes of the end of the log in which warnings of this boot are searched: a boot logs about 100 KiB.
const LOG_BYTES: u64 = 256 << 10;

/// Warnings about the user data since `since`. The quotation of its beginning is left out, because it may be secret:
/// `2026-11-21 12:16:59,413 - __init__.py[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata: 'b'packages:'...'`.
fn warnings(io: &Io, path: &Path, since: Option<Timestamp>) -> Vec<String> {
    let Some(since) = since else { return Vec::new() };
    let text = end_of(io, path, LOG_BYTES).unwrap_or_default();
    let is_recent = |line: &str| {
        let time = line.get(..19).map(|time| format!("{}Z", time.replace(' ', "T")));
        // a minute for a clock that was set during the boot
        let at = time.and_then(|time| time.parse::<Timestamp>().ok());
        at.is_some_and(|at| since.duration_since(at) < jiff::SignedDuration::from_mins(1))
    };
    let about = |line: &&str| user_data::is_unhandled(line) || user_data::is_invalid_yaml(line);
    let found = text.lines().filter(about).filter(|line| line.contains("[WARNING]") && is_recent(line));
    let shown = |line: &str| {
        let message = line.split_once("]: ").map_or(line, |(_, message)| message);
        let end = message.find("userdata:").map_or(message.len(), |at| at + "userdata".len());
        message[..end].chars().take(200).collect()
    };
    found.map(shown).take(5).collect()
}

/// The end of a log, at most this many bytes.
fn end_of(io: &Io, path: &Path, bytes: u64) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = io.open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut read = Vec::new();
    file.take(bytes).read_to_end(&mut read)?;
    Ok(String::from_utf8_lossy(&read).into_owned())
}

/// The last `n` lines of a log, read from its last 16 KiB.
fn tail(io: &Io, path: &Path, n: usize) -> Vec<String> {
    let text = end_of(io, path, 16 << 10).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(n)..].iter().map(|l| (*l).chars().take(300).collect()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = Files::at(root.path());
        (root, files)
    }

    const DONE: &str = r#"{"v1": {"datasource": "DataSourceNoCloud", "stage": null,
        "init": {"errors": [], "recoverable_errors": {"DEPRECATED": ["x is deprecated"]}, "start": 1795245593.5, "finished": 1795245594.0},
        "modules-final": {"errors": ["('scripts_user', RuntimeError('Runparts: 1 failures'))"], "recoverable_errors": {}, "start": 1795245595.0, "finished": 1795245596.0}}}"#;

    #[test]
    fn all_progress_states() {
        let (_keep, none) = tree(&[]);
        assert_eq!(none.read(&Io::for_test()).unwrap(), None);
        let (_keep, fresh) = tree(&[("etc/cloud/cloud.cfg", "")]);
        assert_eq!(fresh.read(&Io::for_test()).unwrap().unwrap().progress, Progress::NotStarted);
        let (_keep, running) = tree(&[("run/cloud-init/status.json", r#"{"v1": {"stage": "init", "init": {"start": 5}}}"#)]);
        let read = running.read(&Io::for_test()).unwrap().unwrap();
        assert_eq!((read.progress, read.stage.as_str()), (Progress::Running, "init"));
        // since 24.3 times are relative to boot
        assert!((read.started.unwrap().duration_since(clock::boot_time()).as_secs_f64() - 5.0).abs() < 1.0);
        let (_keep, done) = tree(&[
            ("run/cloud-init/status.json", DONE),
            ("run/cloud-init/result.json", "{}"),
            ("var/log/cloud-init-output.log", "one\n\ntwo\n"),
        ]);
        let read = done.read(&Io::for_test()).unwrap().unwrap();
        assert_eq!((read.progress, read.errors.len(), read.recoverable["DEPRECATED"].len()), (Progress::Done, 1, 1));
        assert_eq!((read.started.unwrap().as_second(), read.output), (1_795_245_593, vec!["one".to_owned(), "two".to_owned()]));
        let (_keep, off) = tree(&[("run/cloud-init/disabled", ""), ("proc/cmdline", "quiet\n")]);
        assert_eq!(off.read(&Io::for_test()).unwrap().unwrap().progress, Progress::Disabled);
        let (_keep, forced) = tree(&[("etc/cloud/cloud-init.disabled", ""), ("proc/cmdline", "cloud-init=enabled")]);
        assert_eq!(forced.read(&Io::for_test()).unwrap(), None, "neither installed nor run");
    }

    fn read(status: &str) -> CloudInit {
        let (_keep, files) = tree(&[("run/cloud-init/status.json", status)]);
        files.read(&Io::for_test()).unwrap().unwrap()
    }

    #[test]
    fn odd_value_of_a_stage_costs_only_itself() {
        let found = read(
            r#"{"v1": {"stage": 7, "init": {"errors": ["one", {"code": 2}], "recoverable_errors": {"WARNING": "two", "DEPRECATED": [], "ERROR": null}, "start": "x"},
            "init-local": {"errors": null, "start": 1795245593}, "modules-config": {"errors": "three", "start": null}, "odd": []}}"#,
        );
        assert_eq!(found.errors, ["one", r#"{"code":2}"#, "three"]);
        assert_eq!(found.recoverable.into_iter().collect::<Vec<_>>(), [("WARNING".to_owned(), vec!["two".to_owned()])]);
        assert_eq!((found.stage.as_str(), found.started.map(Timestamp::as_second)), ("", Some(1_795_245_593)));
    }

    #[test]
    fn corpus_of_status_files() {
        crate::corpus::check("cloud-init", 8, |text| {
            let found = read(text);
            let recoverable = found.recoverable.iter().map(|(level, all)| format!("{level}:{}", all.len())).collect::<Vec<_>>();
            vec![
                ("stage", found.stage),
                ("datasource", found.datasource),
                ("errors", found.errors.join(" | ")),
                ("recoverable", recoverable.join(" ")),
                // times before 24.3 are absolute
                (
                    "started",
                    found.started.filter(|at| at.as_second() < 1_760_000_000).map(|at| format!("{at:.0}")).unwrap_or_default(),
                ),
            ]
        });
    }

    #[test]
    fn warnings_of_this_boot_without_quotations() {
        let started = "2026-11-21T12:16:50Z".parse().ok();
        let line = |time: &str, text: &str| format!("2026-11-21 {time},413 - __init__.py[WARNING]: {text}\n");
        let unhandled = "Unhandled non-multipart (text/x-not-multipart) userdata: 'b'password: canary'...'";
        let (_keep, files) = tree(&[(
            "var/log/cloud-init.log",
            &[line("11:00:00", unhandled), line("12:16:59", unhandled), line("12:16:59", "Used fallback datasource")].concat(),
        )]);
        let found = warnings(&Io::for_test(), &files.root.join("var/log/cloud-init.log"), started);
        assert_eq!(found, ["Unhandled non-multipart (text/x-not-multipart) userdata"]);
        assert!(warnings(&Io::for_test(), Path::new("/nonexistent"), started).is_empty());
    }

    #[test]
    fn data_source_that_is_absent_on_purpose() {
        let of = |text: &str| tree(&[("etc/cloud/cloud.cfg.d/99-installer.cfg", text)]).1.is_without_source(&Io::for_test());
        assert!(!of("datasource_list: [ NoCloud, None ]\n"));
        let (_keep, files) =
            tree(&[("etc/cloud/cloud.cfg.d/99-installer.cfg", "datasource:\n  None: {}\ndatasource_list: [None]\n")]);
        assert!(files.is_without_source(&Io::for_test()));
    }

    #[test]
    fn truncated_status_file_is_named_in_the_error() {
        let (_keep, half) = tree(&[("run/cloud-init/status.json", "{\"v1\": {")]);
        assert!(half.read(&Io::for_test()).unwrap_err().to_string().contains("status.json"));
    }
}
