//! Shared by `diagnose`, the runbook subcommands, `record` and `fix`: load the configuration, run, print the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use opsctl_core::model::Verdict;
use opsctl_core::model::address::{join, split_port};
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::{ProbeOptions, lag};
use tokio::runtime::{Builder, Runtime};

use super::ending::{self, DEFAULT_DEADLINE, Shown};
use super::exit::UsageError;
use super::fix::Consent;
use super::print::Output;
use super::progress::Progress;
use super::{Global, print};
use crate::audit::Journal;
use crate::config::{self, Config, ConfigEnvironment, KnownNames};
use crate::diagnosis::{RunResult, state_dir};
use crate::engine::{Assessment, Recording, Run, Selection, Session};
use crate::fix::interrupted_notes;
use crate::render::Format;
use crate::watchdog::{self, memory};

/// Other names of runbooks.
pub const ALIASES: &[(&str, &str)] = &[("ssl", "tls")];

/// Options of all commands that print a report.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportArgs {
    /// Format on standard output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Also write a report to a file, for example json=/tmp/report.json; can be given several times
    #[arg(long, value_name = "FORMAT=FILE")]
    pub output: Vec<Output>,
    /// Deadline of the run; checks that have not finished by then are unknown [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    pub deadline: Option<Duration>,
    /// Judge a recording instead of this host
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Also write the evidence of this run to a file, as `opsctl record` does
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Also check this address and its certificate: a URL, or host:port for TLS; can be given several times
    #[arg(long, value_name = "URL", value_parser = config::endpoint)]
    pub endpoint: Vec<Endpoint>,
    /// Print the time of each step on standard error
    #[arg(long, conflicts_with = "replay")]
    pub timings: bool,
    /// Lowest verdict with an exit code other than 0
    #[arg(long, value_name = "VERDICT", default_value = "unknown")]
    pub fail_on: FailOn,
}

/// The lowest verdict with an exit code other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// crit only
    Crit,
    /// crit and warn
    Warn,
    /// crit, warn and unknown
    Unknown,
    /// always exit 0
    Never,
}

impl FailOn {
    /// The exit code of a verdict.
    pub(super) fn exit_code(self, verdict: &Verdict) -> u8 {
        let counts = match verdict {
            Verdict::Crit => self != Self::Never,
            Verdict::Warn => matches!(self, Self::Warn | Self::Unknown),
            Verdict::Unknown(_) => self == Self::Unknown,
            Verdict::Ok | Verdict::Info | Verdict::Skip(_) => false,
        };
        if counts { verdict.exit_code() } else { 0 }
    }
}

/// `opsctl RUNBOOK`.
#[derive(Debug, clap::Args)]
pub struct RunbookArgs {
    /// Only these targets: a container, a mountpoint or a path on it, a server name; for tls, healthcheck and mtu also an address
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Apply the available fixes, each through the guard
    #[arg(long, conflicts_with = "replay")]
    fix: bool,
    /// Also run slow inspections: usage of filesystems by directory, writable layers of containers, complete access logs
    #[arg(long)]
    usage: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs one runbook.
pub fn exec(runbook: &str, args: &RunbookArgs, global: &Global) -> anyhow::Result<u8> {
    let mut report_args = args.report.clone();
    let mut words = Vec::new();
    for word in &args.targets {
        match address(runbook, word) {
            Some((endpoint, name)) => {
                report_args.endpoint.push(endpoint);
                words.push(name);
            }
            None => words.push(word.clone()),
        }
    }
    let selection = Selection { runbooks: vec![runbook.to_owned()], skip: Vec::new(), words };
    if args.consent.yes && !args.fix {
        return Err(UsageError("--yes requires --fix".to_owned()).into());
    }
    // with --fix the plans are shown; without it, the requests that would be sent
    let options = ProbeOptions {
        usage: args.usage,
        dry_run: args.consent.dry_run && !args.fix,
        directories: args.targets.iter().filter(|t| t.starts_with('/')).cloned().collect(),
    };
    let code = report(&selection, options, &report_args, global)?;
    if args.fix { super::fix::exec_runbook(&selection, &report_args.endpoint, args.consent, global) } else { Ok(code) }
}

/// A target that is an address (a URL, or `host:port`), and its name in that runbook.
fn address(runbook: &str, word: &str) -> Option<(Endpoint, String)> {
    let (host, port) = split_port(word);
    let has_port = port.is_some() && !host.is_empty() && !host.starts_with('/');
    if !word.contains("://") && !has_port {
        return None;
    }
    let tcp = port.map_or_else(|| word.to_owned(), |port| format!("tcp://{}", join(host, port)));
    match runbook {
        "mtu" if word.contains("://") => config::endpoint(word).ok().map(|e| (e.clone(), e.url)),
        "mtu" => config::endpoint(&tcp).ok().map(|e| (e.clone(), e.url)),
        "tls" => config::endpoint(word).ok().map(|e| (e.clone(), e.authority())),
        "healthcheck" if word.contains("://") => config::endpoint(word).ok().map(|e| (e.clone(), e.url)),
        "healthcheck" => config::endpoint(&tcp).ok().map(|e| (e.clone(), e.url)),
        _ => None,
    }
}

/// Adds addresses of the command line to those of the configuration.
pub(super) fn add_endpoints(config: &mut Config, endpoints: &[Endpoint]) {
    let added = endpoints.iter().filter(|e| !config.endpoints.iter().any(|known| known.id == e.id)).cloned();
    config.endpoints.extend(added.collect::<Vec<_>>());
}

/// Loads the configuration.
pub fn load(global: &Global) -> Result<Config, config::ConfigError> {
    load_from(global.config.as_deref())
}

/// Loads the configuration from `named`, or from the default files.
pub(super) fn load_from(named: Option<&Path>) -> Result<Config, config::ConfigError> {
    config::load(named, &ConfigEnvironment::of_process(), &KnownNames::registry()).map(|loaded| loaded.config)
}

/// Threads that run probes: if probes block all but one, the remaining checks still finish in time.
const WORKERS: usize = 4;

/// Runs a future in bounded memory. Threads that hang in the kernel are abandoned when the process exits.
pub fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    memory::limit();
    let runtime = runtime()?;
    lag::watch_thread();
    runtime.spawn(lag::measure());
    let value = runtime.block_on(future);
    runtime.shutdown_background();
    lag::ended();
    Ok(value)
}

fn runtime() -> std::io::Result<Runtime> {
    if !can_start_threads(WORKERS) {
        return Builder::new_current_thread().enable_all().build();
    }
    Builder::new_multi_thread().worker_threads(WORKERS).on_thread_start(lag::watch_thread).enable_all().build()
}

/// Whether so many threads can be started: tokio panics, or waits forever, if a thread cannot be started.
fn can_start_threads(count: usize) -> bool {
    let gate = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        let closed = gate.lock();
        let wait = || drop(gate.lock());
        let started = (0..count).map(|_| std::thread::Builder::new().spawn_scoped(scope, wait));
        let all = started.collect::<Vec<_>>().iter().all(Result::is_ok);
        drop(closed);
        all
    })
}

/// Limits a run and everything that it reads first to `deadline`, or to that of the configuration, which is loaded within the default
/// deadline.
pub(super) fn bounded<C>(
    deadline: Option<Duration>,
    load: impl FnOnce() -> Result<C, config::ConfigError>,
    configured: impl FnOnce(&C) -> Duration,
) -> Result<(C, watchdog::Limit), config::ConfigError> {
    let began = watchdog::began();
    let limit = watchdog::within("reading the configuration", began, deadline.unwrap_or(DEFAULT_DEADLINE), None);
    let config = load();
    drop(limit);
    let config = config?;
    let deadline = deadline.unwrap_or_else(|| configured(&config));
    Ok((config, watchdog::within("the run", began, deadline, None)))
}

/// Runs (or replays), prints the report in the requested formats, and returns the exit code.
pub fn report(selection: &Selection, options: ProbeOptions, args: &ReportArgs, global: &Global) -> anyhow::Result<u8> {
    super::init_tracing(global.verbose);
    let run = Run::since(watchdog::began());
    watchdog::on_overdue(ending::of_report(run.partial.clone(), Shown::of(args, global)));
    let (mut config, limit) = bounded(args.deadline, || load(global), |config| config.deadline)?;
    add_endpoints(&mut config, &args.endpoint);
    let name =
        |n: &String| ALIASES.iter().find(|(alias, _)| alias == n).map_or_else(|| n.clone(), |(_, name)| (*name).to_owned());
    let selection = Selection { runbooks: selection.runbooks.iter().map(name).collect(), ..selection.clone() };
    let selection = Selection { skip: [selection.skip.clone(), config.skip.clone()].concat(), ..selection.clone() };
    check_names(&selection, &config)?;
    let assessment = match &args.replay {
        Some(file) => {
            let recording = Recording::read(file)?.narrowed(&selection);
            // a replay reads nothing else, and a recording may be large
            drop(limit);
            if let Some((word, nearest)) = selection.unmatched(&recording.inventory) {
                return Err(no_target(&word, nearest).into());
            }
            Session::replaying(crate::site::runbooks(&config)).assess(&recording)
        }
        None => block_on(live(&config, &selection, options, args, &run, global))??,
    };
    let code = args.fail_on.exit_code(&assessment.verdict);
    watchdog::exit_code(code);
    print::report(&assessment.report, args.format, &args.output, config.file_mode, global)?;
    Ok(code)
}

async fn live(
    config: &Config,
    selection: &Selection,
    options: ProbeOptions,
    args: &ReportArgs,
    run: &Run,
    global: &Global,
) -> anyhow::Result<Assessment> {
    let progress = Progress::new(args.format == Format::Table && !global.quiet, global.color);
    let result = diagnose(config, selection, options, args.deadline, run, &progress).await?;
    if args.timings {
        progress.print(&progress.timings());
    }
    if let Some(file) = &args.record {
        result.recording.write(file)?;
    }
    let mut assessment = result.assessment;
    // an interrupted fix is reported by the next run of any runbook
    assessment.report.notes.extend(interrupted_notes(&Journal::at(&state_dir(config)).entries().unwrap_or_default()));
    Ok(assessment)
}

/// [`crate::diagnosis::run`] with progress output; an unknown target is a usage error.
pub async fn diagnose(
    config: &Config,
    selection: &Selection,
    options: ProbeOptions,
    deadline: Option<Duration>,
    run: &Run,
    progress: &Progress,
) -> anyhow::Result<RunResult> {
    let result = crate::diagnosis::run(config, selection, options, deadline, run, &|event| progress.show(&event)).await;
    progress.finish();
    match &result.unmatched {
        Some((word, nearest)) => Err(no_target(word, nearest.as_deref()).into()),
        None => Ok(result),
    }
}

/// Rejects `--record` for commands that run more than once or compare with the history.
pub(super) fn reject_record(args: &ReportArgs) -> Result<(), UsageError> {
    let refused = args
        .record
        .as_ref()
        .map(|_| UsageError("--record is not available here; use `opsctl diagnose --record FILE`".to_owned()));
    refused.map_or(Ok(()), Err)
}

/// Rejects a misspelt runbook, which would run no check and report ok.
pub(super) fn check_names(selection: &Selection, config: &Config) -> anyhow::Result<()> {
    let known = KnownNames::registry().with(&config.site).checks;
    for name in selection.runbooks.iter().chain(&selection.skip) {
        if !known.contains(name) {
            let hint = config::did_you_mean(name, known.iter().map(String::as_str));
            return Err(UsageError(format!("no runbook or check is called `{name}`{hint}")).into());
        }
    }
    Ok(())
}

/// The error for a misspelt target, which would run no check and report ok.
fn no_target(word: &str, nearest: Option<&str>) -> UsageError {
    let hint = nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    UsageError(format!("there is no target `{word}` here{hint} (`opsctl targets` shows all)"))
}
