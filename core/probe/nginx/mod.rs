//! nginx: processes, configuration as nginx sees it, `nginx -t`, logs, and the resolved upstream addresses.

mod access;
mod config;
mod documents;
mod error_log;
mod error_shapes;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod log_format;
mod log_read;
mod log_scan;
mod memory;
mod peers;
mod process;
mod syntax;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use access::{DeniedSocket, denied_socket, user_of_worker};
pub use config::{AccessLog, Backend, COMBINED, Config, Listen, Site, serves};
pub use documents::{Document, DocumentFault, Documents, document_fault};
pub use error_log::{ErrorLine, Errors, Signal};
pub use error_shapes::CONFIGURATION_SIGNALS;
pub use log_format::LogFormat;
pub use log_scan::{Requests, Scanner};
pub use memory::known_addresses;
pub use peers::{ports_used_by, remotes_of, waiting_to_be_accepted};
pub use process::{Descriptors, Worker, descriptors};
pub use tree::SeenFile;

use error_shapes::Configured;

use super::docker::ContainerLog;
use super::io::{Io, Root};
use super::{Memo, ProbeCx, ProbeError, blocking};
use crate::model::{ServerProcess, ServerRef};
use crate::probe::io::clock;

/// Timeout of reading a configuration of thousands of files.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of `nginx -t`: it resolves every host name, with five seconds per name server.
const TEST_TIMEOUT: Duration = Duration::from_secs(6);

/// Timeout of reading the end of a log.
const LOG_TIMEOUT: Duration = Duration::from_secs(3);

/// Time limit of a complete scan on request; unfinished files are listed.
const FULL_SCAN_TIMEOUT: Duration = Duration::from_secs(6);

/// Limit of the lines requested from a container's output.
const MAX_OUTPUT_LINES: u32 = 50_000;

/// One nginx at the time of discovery.
#[derive(Debug, Clone, Default)]
pub struct Nginx {
    /// Process id of the master.
    pub master: i32,
    /// Workers, the oldest first.
    pub workers: Vec<Worker>,
    /// Configuration of the files; not necessarily the loaded one.
    pub config: Config,
    /// Configuration files, each once.
    pub files: Vec<SeenFile>,
    /// Unreadable or invalid files.
    pub problems: Vec<String>,
    /// Program and arguments for a test, without `-t`.
    argv: Vec<String>,
}

impl Nginx {
    /// Load time of the active configuration: start of the oldest worker that is not shutting down.
    #[must_use]
    pub fn loaded_at(&self) -> Option<Timestamp> {
        self.workers.iter().filter(|w| !w.leaving).map(|w| w.started).min()
    }

    /// Workers that accept new requests.
    pub fn serving(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|w| !w.leaving)
    }
}

/// Reads the processes and files of the nginx with this master process.
pub async fn read(master: i32) -> Result<Nginx, ProbeError> {
    blocking::run("nginx's configuration", &Root::name(master), READ_TIMEOUT, move |io| read_now(io, master)).await?
}

fn read_now(io: &Io, master: i32) -> Result<Nginx, ProbeError> {
    let from = Root::name(master);
    let root = Root::of(io, master).map_err(|e| ProbeError::io("nginx's configuration", &from, &e))?;
    let arguments = process::arguments(&process::title(io, master).unwrap_or_default());
    let main = match &arguments.file {
        Some(file) if file.starts_with('/') => Some(file.clone()),
        Some(file) => {
            arguments.prefix.clone().or_else(|| io.working_directory(master)).map(|f| tree::absolute(file, &format!("{f}/x")))
        }
        None => arguments
            .prefix
            .as_ref()
            .map(|p| format!("{}/conf/nginx.conf", p.trim_end_matches('/')))
            .filter(|p| root.exists(p))
            .or_else(|| tree::usual_main(&root).map(str::to_owned)),
    };
    let program = io.read_link(format!("/proc/{master}/exe")).ok().and_then(|p| p.into_os_string().into_string().ok());
    // an upgrade leaves the old binary running
    let program = program.map_or_else(|| "nginx".to_owned(), |p| p.trim_end_matches(" (deleted)").to_owned());
    let mut argv = vec![program];
    for (flag, value) in [("-c", &arguments.file), ("-p", &arguments.prefix), ("-g", &arguments.global)] {
        if let Some(value) = value {
            argv.extend([flag.to_owned(), value.clone()]);
        }
    }
    let mut nginx = Nginx { master, workers: process::workers(io, master), argv, ..Nginx::default() };
    match main {
        Some(main) => {
            let tree = tree::read(&root, &main);
            let prefix = arguments.prefix.unwrap_or_else(|| "/etc/nginx".to_owned());
            nginx.config = config::read(&tree.directives, &main, &prefix);
            (nginx.files, nginx.problems) = (tree.files, tree.problems);
        }
        None => nginx.problems.push("no nginx.conf at the paths of packages and images, and none in its arguments".to_owned()),
    }
    Ok(nginx)
}

/// Result of `nginx -t`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigTest {
    /// Whether the test is successful.
    pub passes: bool,
    /// Output, without the usual last lines.
    pub says: Vec<String>,
    /// Reason for not running it.
    pub not_run: Option<String>,
    /// The command.
    pub command: String,
}

impl ConfigTest {
    /// The line with the cause of a failure, or `None` without output.
    #[must_use]
    pub fn complaint(&self) -> Option<&str> {
        let serious = |level: &str| self.says.iter().find(|l| l.starts_with(level));
        serious("[emerg]").or_else(|| serious("[alert]")).or(self.says.last()).map(String::as_str)
    }
}

/// Results of `nginx -t` by id of the server.
#[derive(Default)]
struct ConfigTests(Memo<String, ConfigTest>);

/// Runs `nginx -t` once per run, in the server's container or on this host.
pub async fn test(cx: &ProbeCx, server: &ServerRef, nginx: &Nginx) -> ConfigTest {
    let test = || async {
        match server.process {
            Some(process) => run_test(cx.docker.as_deref(), server.container.as_deref(), process, &test_command(nginx)).await,
            None => ConfigTest { not_run: Some("it does not run".to_owned()), ..ConfigTest::default() },
        }
    };
    cx.shared.get::<ConfigTests>().0.get(server.id.clone(), test).await
}

/// Command line of the test.
#[must_use]
pub fn test_command(nginx: &Nginx) -> Vec<String> {
    nginx.argv.iter().cloned().chain(["-t".to_owned()]).collect()
}

/// [`test()`] for a given command; for the guard, immediately before a fix.
pub async fn run_test(
    docker: Option<&super::docker::Docker>,
    container: Option<&str>,
    process: ServerProcess,
    argv: &[String],
) -> ConfigTest {
    let mut tested = ConfigTest { command: argv.join(" "), ..ConfigTest::default() };
    let ended = crate::probe::docker::run::run_for(docker, container, process, argv, &[], TEST_TIMEOUT).await;
    let ended = ended.map(|e| (e.code == Some(0), e.stderr + &e.stdout));
    match ended {
        Ok((passes, text)) => {
            tested.passes = passes;
            tested.says = text
                .lines()
                .map(|l| without_prefix(l).chars().take(400).collect::<String>())
                .filter(|l| !l.is_empty() && !l.contains("syntax is ok") && !l.contains("test is successful"))
                .take(20)
                .collect();
        }
        Err(why) => tested.not_run = Some(why),
    }
    tested
}

/// A line of nginx without its program name, or without time and process if an error log is configured.
fn without_prefix(line: &str) -> String {
    let line = line.trim().trim_start_matches("nginx: ");
    let dated = line.as_bytes().get(4) == Some(&b'/') && line.len() > 20 && line.is_char_boundary(20);
    let line = if dated { &line[20..] } else { line };
    match line.split_once("] ") {
        Some((level, rest)) if level.starts_with('[') => {
            let number =
                |w: &str| w.trim_end_matches(':').split('#').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            let rest =
                rest.split_once(' ').filter(|(first, _)| first.contains('#') && number(first)).map_or(rest, |(_, rest)| rest);
            format!("{level}] {rest}")
        }
        _ => line.to_owned(),
    }
}

/// Access logs of the last minutes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Counted requests.
    pub requests: Requests,
    /// Requests of the last minute: shows whether the errors continue.
    pub recent: Requests,
    /// Logs that were read.
    pub read: Vec<String>,
    /// Logs that could not be read or parsed, with the reason.
    pub unread: Vec<String>,
    /// Whether a log has more lines than were read.
    pub cut: bool,
}

/// Output of a container, read at most once per run.
async fn output_of(cx: &ProbeCx, server: &ServerRef, window: SignedDuration) -> Result<Arc<ContainerLog>, ProbeError> {
    let id = server
        .container
        .as_deref()
        .ok_or_else(|| ProbeError::Skip("its output is not collected by a container engine".to_owned()))?;
    let since = clock::now().saturating_sub(window).unwrap_or(Timestamp::UNIX_EPOCH);
    cx.docker()?.log_since(id, since, MAX_OUTPUT_LINES).await
}

/// Output stream of the process that a path leads to, if any.
fn output(root: &Root, path: &str) -> Option<&'static str> {
    let target = root.link(path);
    let of = |p: &str| match p {
        "/dev/stdout" | "/proc/self/fd/1" | "/dev/fd/1" | "/proc/1/fd/1" => Some("stdout"),
        "/dev/stderr" | "/proc/self/fd/2" | "/dev/fd/2" | "/proc/1/fd/2" => Some("stderr"),
        _ => None,
    };
    of(path).or_else(|| target.as_deref().and_then(of))
}

impl Nginx {
    /// One of the lists of logs, read on a thread that can be abandoned.
    async fn logs<T: Send + 'static>(&self, list: fn(&Self, &Io) -> T) -> Result<T, ProbeError> {
        let nginx = self.clone();
        blocking::run("open files", &format!("process {}", self.master), READ_TIMEOUT, move |io| list(&nginx, io)).await
    }

    /// Access logs to read: those of the configuration, or the built-in one, by the open files of the master.
    fn access_logs(&self, io: &Io) -> Vec<AccessLog> {
        if !self.config.default_access_log {
            return self.config.access_logs.clone();
        }
        let open = crate::probe::proc::files::open_files(io, self.master, "access.log");
        let built_in = |path: String| AccessLog { path, format: COMBINED.to_owned(), conditional: false };
        if open.is_empty() {
            vec![built_in("/var/log/nginx/access.log".to_owned())]
        } else {
            open.into_iter().map(built_in).collect()
        }
    }

    fn error_logs(&self, io: &Io) -> Vec<String> {
        if !self.config.error_logs.is_empty() {
            return self.config.error_logs.clone();
        }
        let open = crate::probe::proc::files::open_files(io, self.master, "error.log");
        if open.is_empty() { vec!["/var/log/nginx/error.log".to_owned()] } else { open }
    }

    /// Counts the requests of the last `window`.
    pub async fn traffic(&self, cx: &ProbeCx, server: &ServerRef, window: SignedDuration) -> Result<Traffic, ProbeError> {
        let mut traffic = Traffic::default();
        let mut logs = self.logs(Nginx::access_logs).await?;
        // a conditional log is no basis for an error rate
        logs.retain(|l| !l.conditional);
        let master = self.master;
        let now = clock::now();
        let from = Root::name(master);
        for log in logs {
            let Some(format) = LogFormat::new(&log.format) else {
                traffic.unread.push(format!("{}: its format has no $status", log.path));
                continue;
            };
            let scanner = Scanner::new(format);
            let path = log.path.clone();
            let counting = scanner.clone();
            let read = blocking::run("an access log", &from, LOG_TIMEOUT, move |io| {
                let root = Root::of(io, master)?;
                if output(&root, &path).is_some() {
                    return Ok(None);
                }
                let mut requests = Requests::default();
                if !counting.format().has_time() {
                    return Err(std::io::Error::other("its log_format contains no time"));
                }
                let tail = log_read::window(&root, &path, now, window, &|l| counting.format().time(l))?;
                counting.scan(&tail.bytes, &mut requests);
                check_format(&tail.bytes, counting.format())?;
                Ok(Some((requests, recent(&tail.bytes, now, &counting), tail.cut)))
            })
            .await?;
            match read {
                Ok(Some((requests, recent, cut))) => {
                    traffic.requests.add(&requests);
                    traffic.recent.add(&recent);
                    traffic.cut |= cut;
                    traffic.read.push(log.path);
                }
                Ok(None) => match output_of(cx, server, window).await {
                    Ok(output) => {
                        // lines of other formats are not access log lines
                        let mut lines = Vec::new();
                        for line in output.stdout.split(|b| *b == b'\n').filter(|l| scanner.format().status(l).is_some()) {
                            lines.extend_from_slice(line);
                            lines.push(b'\n');
                        }
                        let mut requests = Requests::default();
                        if !lines.is_empty() {
                            scanner.scan(&lines, &mut requests);
                            traffic.recent.add(&recent(&lines, now, &scanner));
                        }
                        traffic.requests.add(&requests);
                        traffic.cut |= output.cut;
                        traffic.read.push("its container's output".to_owned());
                    }
                    Err(e) => traffic.unread.push(format!("{}: {e}", log.path)),
                },
                Err(e) => traffic.unread.push(format!("{}: {e}", log.path)),
            }
        }
        Ok(traffic)
    }

    /// Signals and other errors of the error logs within the last `window`, read once per run, and the logs that cannot be
    /// read.
    pub async fn errors(
        &self,
        cx: &ProbeCx,
        server: &ServerRef,
        window: SignedDuration,
    ) -> Result<(Errors, Vec<String>), ProbeError> {
        let read = || async { self.read_errors(cx, server, window).await };
        cx.shared.get::<ErrorLogs>().0.get((server.id.clone(), window), read).await
    }

    async fn read_errors(
        &self,
        cx: &ProbeCx,
        server: &ServerRef,
        window: SignedDuration,
    ) -> Result<(Errors, Vec<String>), ProbeError> {
        let (mut errors, mut unread) = (Errors::default(), Vec::new());
        let configured = Configured::of(&self.config);
        let master = self.master;
        let now = clock::now();
        let from = Root::name(master);
        for path in self.logs(Nginx::error_logs).await? {
            let (name, texts, mut counted) = (path.clone(), configured.clone(), errors);
            let (so_far, read) = blocking::run("an error log", &from, LOG_TIMEOUT, move |io| {
                let read = count_errors(io, master, &path, (now, window), &texts, &mut counted);
                (counted, read)
            })
            .await?;
            errors = so_far;
            match read {
                Ok(None) => errors.read.push(name),
                Ok(Some(zone)) => match output_of(cx, server, window).await {
                    Ok(output) => {
                        error_log::count(&output.stderr, &zone, &configured, &mut errors);
                        errors.read.push("its container's output".to_owned());
                    }
                    Err(e) => unread.push(format!("{name}: {e}")),
                },
                // some builds do not create a log before the first message
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => unread.push(format!("{name}: {e}")),
            }
        }
        Ok((errors, unread))
    }

    /// Counts the requests of all access logs and their rotated files; the second value is the size in bytes.
    pub async fn all_traffic(&self) -> Result<(Traffic, u64), ProbeError> {
        let master = self.master;
        let logs = self.logs(Nginx::access_logs).await?;
        blocking::run("the access logs", &Root::name(master), FULL_SCAN_TIMEOUT + Duration::from_secs(1), move |io| {
            let mut traffic = Traffic::default();
            let mut size = 0;
            let Ok(root) = Root::of(io, master) else { return (traffic, 0) };
            for log in logs {
                let Some(format) = LogFormat::new(&log.format) else { continue };
                if output(&root, &log.path).is_some() {
                    traffic.unread.push(format!("{}: written to its output; see `docker logs`", log.path));
                    continue;
                }
                let mut paths = vec![log.path.clone()];
                paths.extend(log_read::rotated(&root, &log.path));
                let (requests, bytes, problems) =
                    log_read::whole(&root, &paths, &Scanner::new(format).only_failures(), FULL_SCAN_TIMEOUT);
                traffic.requests.add(&requests);
                traffic.unread.extend(problems);
                traffic.read.extend(paths);
                size += bytes;
            }
            (traffic, size)
        })
        .await
    }
}

/// Errors by id of the server and window.
#[derive(Default)]
struct ErrorLogs(Memo<(String, SignedDuration), ErrorLog>);

/// The errors of a log, and the files that could not be read.
type ErrorLog = Result<(Errors, Vec<String>), ProbeError>;

/// Adds the errors of one log; returns its time zone if it is the output of the process, which is read elsewhere.
fn count_errors(
    io: &Io,
    master: i32,
    path: &str,
    (now, window): (Timestamp, SignedDuration),
    configured: &Configured,
    errors: &mut Errors,
) -> std::io::Result<Option<TimeZone>> {
    let root = Root::of(io, master)?;
    let zone = zone_of(io, master, &root);
    if output(&root, path).is_some() {
        return Ok(Some(zone));
    }
    let tail = log_read::window(&root, path, now, window, &|l| error_log::time(l, &zone))?;
    error_log::count(&tail.bytes, &zone, configured, errors);
    Ok(None)
}

/// The last minute of a window.
fn recent(window: &[u8], now: Timestamp, scanner: &Scanner) -> Requests {
    let mut requests = Requests::default();
    let since = now.saturating_sub(SignedDuration::from_mins(1)).unwrap_or(now);
    let lines = &window[log_read::lower_bound(window, since, &|l| scanner.format().time(l))..];
    if !lines.is_empty() {
        scanner.scan(lines, &mut requests);
    }
    requests
}

/// Fails if no line matches the log format: the configuration on disk is not the loaded one.
fn check_format(bytes: &[u8], format: &LogFormat) -> std::io::Result<()> {
    let mut lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).rev().take(50).peekable();
    if lines.peek().is_some() && !lines.any(|l| format.status(l).is_some()) {
        return Err(std::io::Error::other("its lines do not match its log_format"));
    }
    Ok(())
}

/// A site with a maintenance configuration beside its ordinary one, and the active one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mode {
    /// The included file.
    pub file: String,
    /// The file it links to or is a copy of.
    pub is: String,
    /// Time of the change.
    pub since: Option<Timestamp>,
}

impl Nginx {
    /// Certificate and key files of the configuration, with the time of their last change.
    pub async fn certificate_files(&self) -> Result<Vec<SeenFile>, ProbeError> {
        let paths: Vec<String> =
            self.config.certificates.iter().flat_map(|(c, k)| [c.clone(), k.clone()]).filter(|p| !p.is_empty()).collect();
        let master = self.master;
        blocking::run("nginx's certificates", &Root::name(master), READ_TIMEOUT, move |io| {
            let Ok(root) = Root::of(io, master) else { return Vec::new() };
            paths.into_iter().map(|path| SeenFile { modified: root.modified(&path), path }).collect()
        })
        .await
    }
}

/// Suffixes of maintenance configurations (judgement: `.conf.temp` beside `.conf.full`).
const MAINTENANCE_SUFFIXES: &[&str] = &["temp", "maintenance", "maint"];

impl Nginx {
    /// Included files in maintenance mode: a link to `x.conf.temp`, or a copy of it.
    pub async fn in_maintenance(&self) -> Result<Vec<Mode>, ProbeError> {
        let (master, files) = (self.master, self.files.clone());
        blocking::run("nginx's configuration", &Root::name(master), READ_TIMEOUT, move |io| {
            let Ok(root) = Root::of(io, master) else { return Vec::new() };
            files.iter().filter_map(|f| maintenance_mode(&root, f)).collect()
        })
        .await
    }
}

fn maintenance_mode(root: &Root, file: &SeenFile) -> Option<Mode> {
    let of = |is: String| Some(Mode { file: file.path.clone(), is, since: file.modified });
    if let Some(target) = root.link(&file.path) {
        return MAINTENANCE_SUFFIXES.iter().any(|m| target.ends_with(&format!(".{m}"))).then(|| of(target)).flatten();
    }
    let beside = MAINTENANCE_SUFFIXES.iter().map(|m| format!("{}.{m}", file.path)).find(|p| root.exists(p))?;
    let read = |path: &str| root.bytes(path, 1 << 20).ok();
    let (now, temporary) = (read(&file.path)?, read(&beside)?);
    let full = read(&format!("{}.full", file.path));
    (now == temporary && full.is_none_or(|f| f != now)).then(|| of(beside)).flatten()
}

/// Time zone of a process: `TZ`, or the local time of its root.
fn zone_of(io: &Io, pid: i32, root: &Root) -> TimeZone {
    let environ = io.read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let tz = environ.split(|b| *b == 0).find_map(|e| e.strip_prefix(b"TZ=")).map(|v| String::from_utf8_lossy(v).into_owned());
    let path = match tz.as_deref().map(|t| t.trim_start_matches(':')) {
        Some("" | "UTC") => return TimeZone::UTC,
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(name) => format!("/usr/share/zoneinfo/{name}"),
        None => "/etc/localtime".to_owned(),
    };
    let bytes = root.bytes(&path, 1 << 20).unwrap_or_default();
    TimeZone::tzif("local", &bytes).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_output_is_normalized_with_and_without_an_error_log() {
        for line in [
            "nginx: [emerg] unknown directive \"x\" in /etc/nginx/a.conf:2",
            "2026/11/21 14:29:19 [emerg] 5472#5472: unknown directive \"x\" in /etc/nginx/a.conf:2",
        ] {
            assert_eq!(without_prefix(line), "[emerg] unknown directive \"x\" in /etc/nginx/a.conf:2");
        }
        assert_eq!(without_prefix("anything else"), "anything else");
    }
}
