//! One run on this host with the loaded configuration, stored for the next run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::probe::ProbeOptions;
use opsctl_core::probe::kernel::host;

use crate::changes;
use crate::config::{Config, ConfigEnvironment};
use crate::engine::{Assessment, Progress, Recording, Run, Selection, Session, Setup, Step};
use crate::image::is_image;
use crate::report::add_journal;
use crate::site;
use crate::state::{Scope, Store, sample_of};
use crate::waive::{self, Waivers};

/// The result of a run, with its session.
pub struct RunResult {
    /// For re-checks.
    pub session: Session,
    /// History.
    pub store: Store,
    /// Evidence, without secrets.
    pub recording: Recording,
    /// Assessment.
    pub assessment: Assessment,
    /// A word of the selection that matches no target, with the nearest name.
    pub unmatched: Option<(String, Option<String>)>,
}

/// The state directory.
#[must_use]
pub fn state_dir(config: &Config) -> PathBuf {
    ConfigEnvironment::of_process().state_dir(config.state_dir.as_deref())
}

/// A session on this host, and its history.
pub async fn session(config: &Config, options: ProbeOptions, deadline: Option<Duration>) -> (Session, Store) {
    session_at(&state_dir(config), config, options, deadline).await
}

async fn session_at(state_dir: &Path, config: &Config, options: ProbeOptions, deadline: Option<Duration>) -> (Session, Store) {
    let store = if is_image() {
        Store::without("opsctl runs from its image, which stores nothing on the host")
    } else {
        Store::open(state_dir, config.history_days).await
    };
    let (made, notes) = match waive::load(state_dir) {
        Ok(made) => (made, config.notes.clone()),
        Err(e) => (Vec::new(), [config.notes.clone(), vec![e.to_string()]].concat()),
    };
    let notes = notes.into_iter().chain(crate::fix::host_switched_off()).collect();
    let owners = config.clone();
    let (history, kept, boot_id) = (store.clone(), state_dir.to_owned(), host::read_info().await.boot_id);
    let session = Session::new(Setup {
        runbooks: site::runbooks(config),
        endpoint: config.endpoint.as_ref().map(ToString::to_string),
        servers: config.servers.clone(),
        endpoints: config.endpoints.clone(),
        owner_of: Box::new(move |name| owners.owner_of(name).map(str::to_owned)),
        waivers: Waivers { all: [config.waivers.clone(), made].concat() },
        notes,
        history: Arc::new(store.clone()),
        own_changes: Box::new(move |since| changes::own(&kept, &history, &boot_id, since)),
        options,
        deadline: deadline.unwrap_or(config.deadline),
    });
    (session, store)
}

/// Diagnoses this host, and stores samples and findings for the next run.
pub async fn run(
    config: &Config,
    selection: &Selection,
    options: ProbeOptions,
    deadline: Option<Duration>,
    run: &Run,
    progress: &dyn Fn(Progress),
) -> RunResult {
    let (session, store) = session(config, options, deadline).await;
    let (recording, mut assessment) = session.run(selection, run, progress).await;
    progress(Progress::Storing);
    run.partial.step(Step::Storing);
    let unmatched = selection.unmatched(&recording.inventory).map(|(word, near)| (word, near.map(str::to_owned)));
    let report = &assessment.report;
    let measures = report.measures.iter().map(|m| sample_of(m, report.started_at));
    let mut samples: Vec<_> = std::mem::take(&mut assessment.samples).into_iter().chain(measures).collect();
    // without samples no database is created
    if !samples.is_empty() {
        samples.push(changes::clock_sample(&report.host.boot_id));
    }
    // a history that hangs must not delay the report
    let until = run.began + session.deadline();
    let remembered = tokio::time::timeout_at(until.into(), store.record(samples)).await;
    let narrowed = !selection.runbooks.is_empty() || !selection.skip.is_empty();
    let scope = match (selection.words.is_empty(), narrowed) {
        (false, _) => Scope::Targets,
        (true, true) => Scope::Runbooks,
        (true, false) => Scope::Everything,
    };
    let observed = tokio::time::timeout_at(until.into(), store.observe(&assessment.report, scope)).await;
    assessment.report.notes.extend(store.note());
    // a comparison may store the head of the journal
    if !is_image() {
        add_journal(&mut assessment.report, &state_dir(config), config.signing_key.as_deref()).await;
    }
    if remembered.and(observed).is_err() {
        assessment.report.notes.push("the samples and findings of this run were not stored: the deadline was reached".to_owned());
    }
    run.partial.step(Step::Reporting);
    RunResult { session, store, recording, assessment, unmatched }
}
