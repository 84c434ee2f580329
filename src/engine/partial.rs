//! The partial results of a run. The watchdog builds a report from them if the run exceeds its deadline.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use opsctl_core::model::{HostInfo, Inventory, Object, Outcome, Record, Report, Verdict, quantity};
use opsctl_core::probe::Redactor;
use opsctl_core::probe::io::clock;

use super::Recording;
use super::assess::{Assessment, Judging, assess_except};
use crate::watchdog::ExceededLimit;

/// No record is being judged.
const NONE: usize = usize::MAX;

/// One run: its start, and its partial results.
#[derive(Clone)]
pub struct Run {
    /// Start of its deadline.
    pub began: Instant,
    /// Partial results.
    pub partial: Arc<Partial>,
}

impl Run {
    /// A run with a deadline that starts at `began`.
    #[must_use]
    pub fn since(began: Instant) -> Self {
        Self { began, partial: Arc::default() }
    }
}

impl Default for Run {
    /// A run that begins now.
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

/// The current step of a run, for the note of the watchdog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Step {
    /// Reading the configuration and opening the history.
    #[default]
    Preparing,
    /// Discovering targets.
    Discovering,
    /// Running probes.
    Probing,
    /// Removing secrets and judging.
    Judging,
    /// Reading earlier changes.
    ReadingChanges,
    /// Writing samples and findings to the history.
    Storing,
    /// Comparing, rendering and writing the report.
    Reporting,
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Self::Preparing => "reading the configuration and the history",
            Self::Discovering => "discovering targets",
            Self::Probing => "running probes",
            Self::Judging => "judging the evidence",
            Self::ReadingChanges => "reading earlier changes",
            Self::Storing => "writing to the history",
            Self::Reporting => "writing the report",
        }
    }
}

/// One check of one target.
pub(super) struct Job {
    pub(super) check: &'static str,
    pub(super) target: Object,
    /// It is running, or is blocked in the kernel.
    pub(super) polled: AtomicBool,
}

/// The partial results of a run.
pub struct Partial {
    known: Mutex<State>,
    /// Index of the record that is being judged.
    judged: AtomicUsize,
}

#[derive(Default)]
struct State {
    step: Step,
    judging: Option<Arc<Judging>>,
    host: Option<Arc<HostInfo>>,
    started_at: Option<Timestamp>,
    began: Option<Instant>,
    inventory: Option<Arc<Inventory>>,
    redactor: Option<Arc<Redactor>>,
    jobs: Arc<Vec<Job>>,
    /// The record of each job that has finished.
    records: Vec<Option<Scrubbed>>,
    recording: Option<Arc<Recording>>,
    report: Option<(Report, Verdict)>,
}

impl Default for Partial {
    fn default() -> Self {
        Self { known: Mutex::default(), judged: AtomicUsize::new(NONE) }
    }
}

/// A record without the secrets known at that time.
#[derive(Clone)]
struct Scrubbed {
    record: Arc<Record>,
    /// [`Redactor::generation`].
    generation: u64,
}

impl Scrubbed {
    fn new(mut record: Record, redactor: &Redactor) -> Self {
        let generation = redactor.generation();
        match &mut record.outcome {
            Outcome::Evidence(text) => text.scrub(redactor),
            Outcome::Unknown(why) | Outcome::Skip(why) => *why = redactor.scrub(why),
        }
        Self { record: Arc::new(record), generation }
    }
}

impl Partial {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the current step.
    pub fn step(&self, step: Step) {
        self.lock().step = step;
    }

    /// Starts a run and discards the results of an earlier one.
    pub(super) fn begin(&self, judging: Arc<Judging>, host: HostInfo, began: Instant, started_at: Timestamp) {
        let new = State {
            step: Step::Discovering,
            judging: Some(judging),
            host: Some(Arc::new(host)),
            started_at: Some(started_at),
            began: Some(began),
            ..State::default()
        };
        // dropped without the lock
        let _before = std::mem::replace(&mut *self.lock(), new);
        self.judged.store(NONE, Ordering::Relaxed);
    }

    /// Sets the discovered targets. Some jobs have a record from the start.
    pub(super) fn discovered(
        &self,
        inventory: Arc<Inventory>,
        redactor: Arc<Redactor>,
        jobs: Arc<Vec<Job>>,
        records: Vec<Option<Record>>,
    ) {
        let records = records.into_iter().map(|record| record.map(|r| Scrubbed::new(r, &redactor))).collect();
        let mut known = self.lock();
        known.step = Step::Probing;
        (known.inventory, known.redactor, known.jobs, known.records) = (Some(inventory), Some(redactor), jobs, records);
    }

    /// Stores the record of a finished check. Most secrets are known by then, which leaves less to remove after the deadline.
    pub(super) fn finished(&self, order: usize, record: Record, redactor: &Redactor) {
        self.keep(order, Scrubbed::new(record, redactor));
    }

    fn keep(&self, order: usize, record: Scrubbed) {
        if let Some(known) = self.lock().records.get_mut(order) {
            *known = Some(record);
        }
    }

    /// Completes the records: every check has one, without secrets (the log of one container can contain the password of another,
    /// which was read later). `why` is the reason of unfinished checks. The run and its watchdog may call this concurrently.
    pub(super) fn complete(&self, why: &str) {
        let (jobs, redactor, began) = {
            let mut known = self.lock();
            known.step = Step::Judging;
            (known.jobs.clone(), known.redactor.clone().unwrap_or_default(), known.began.unwrap_or_else(Instant::now))
        };
        for (order, job) in jobs.iter().enumerate() {
            // no allocation while the lock is held: a thread that fails to allocate must not block the watchdog
            let known = self.lock().records.get(order).cloned();
            let record = match known {
                // the recording is complete
                None => return,
                Some(Some(known)) if known.generation == redactor.generation() => continue,
                Some(Some(known)) => (*known.record).clone(),
                Some(None) => job.unfinished(why, began),
            };
            self.keep(order, Scrubbed::new(record, &redactor));
        }
    }

    /// All evidence, in report order; the same for the run and its watchdog.
    pub(super) fn recorded(&self) -> Arc<Recording> {
        let mut recording = self.without_records();
        let count = self.lock().jobs.len();
        recording.records = Vec::with_capacity(count);
        let mut recording = Arc::new(recording);
        let mut known = self.lock();
        if let Some(made) = &known.recording {
            return made.clone();
        }
        if let Some(recording) = Arc::get_mut(&mut recording) {
            let records = std::mem::take(&mut known.records).into_iter().flatten();
            recording.records.extend(records.map(|scrubbed| Arc::unwrap_or_clone(scrubbed.record)));
        }
        known.recording = Some(recording.clone());
        recording
    }

    fn without_records(&self) -> Recording {
        let (inventory, started_at, began, host) = {
            let known = self.lock();
            (known.inventory.clone(), known.started_at, known.began, known.host.clone())
        };
        Recording {
            host: host.map_or_else(Default::default, |host| (*host).clone()),
            started_at: started_at.unwrap_or_else(clock::now),
            duration_ms: began.map_or(0, |began| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ..Recording::of_nothing(inventory.map_or_else(Default::default, Arc::unwrap_or_clone))
        }
    }

    /// Sets the record that is being judged.
    pub(super) fn judge(&self, order: usize) {
        self.judged.store(order, Ordering::Relaxed);
    }

    /// Stores the report; later steps only add to it.
    pub(super) fn judged(&self, report: &Report, verdict: &Verdict) {
        let made = Some((report.clone(), verdict.clone()));
        let mut known = self.lock();
        known.report = made;
        known.recording = None;
    }

    /// The assessment of the partial results: unfinished checks are unknown. `missed` is the limit that ends the run.
    #[must_use]
    pub fn assess(&self, missed: ExceededLimit) -> Assessment {
        let (step, judging, began) = {
            let known = self.lock();
            (known.step, known.judging.clone(), known.began.unwrap_or_else(Instant::now))
        };
        let ended =
            |report, verdict| Assessment::of_report(report, verdict, &format!("{}: {}", step.words(), missed.reason(began)));
        let made = || self.lock().report.take();
        if let Some((report, verdict)) = made() {
            return ended(report, verdict);
        }
        let mut notes = vec![format!("the watchdog ended this run while {}: {}", step.words(), missed.words())];
        let known = self.lock().recording.clone();
        let recording = known.unwrap_or_else(|| {
            notes.extend(self.blocked());
            self.complete(&missed.reason(began));
            self.recorded()
        });
        // the run has advanced in the meantime
        if let Some((report, verdict)) = made() {
            return ended(report, verdict);
        }
        // the judgement that did not finish would not finish here either
        let but = Some(self.judged.load(Ordering::Relaxed)).filter(|order| *order != NONE && step == Step::Judging);
        let mut assessment = assess_except(&judging.unwrap_or_default(), &recording, but, &|_| {});
        assessment.report.notes.splice(0..0, notes);
        let Assessment { report, verdict, .. } = assessment;
        // also if all checks have finished: another step has not
        ended(report, verdict)
    }

    /// The recording of the partial evidence, without secrets; `None` before the end of discovery.
    #[must_use]
    pub fn recording(&self, missed: ExceededLimit) -> Option<Recording> {
        let began = {
            let known = self.lock();
            known.inventory.as_ref()?;
            known.began.unwrap_or_else(Instant::now)
        };
        let known = self.lock().recording.clone();
        if let Some(recording) = known {
            return Some(Arc::unwrap_or_clone(recording));
        }
        self.complete(&missed.reason(began));
        Some(Arc::unwrap_or_clone(self.recorded()))
    }

    /// The checks that block others.
    fn blocked(&self) -> Option<String> {
        let jobs = self.lock().jobs.clone();
        let ended: Vec<bool> = self.lock().records.iter().map(Option::is_some).collect();
        let blocked = jobs.iter().zip(ended).filter(|(job, ended)| !ended && job.polled.load(Ordering::Relaxed));
        let blocked: Vec<String> = blocked.map(|(j, _)| format!("{} {}", j.check, j.target)).collect();
        (!blocked.is_empty()).then(|| format!("blocked in a call: {}", quantity::some_of(&blocked, 4)))
    }
}

impl Job {
    /// The record of an unfinished check.
    fn unfinished(&self, why: &str, began: Instant) -> Record {
        let blocked = self.polled.load(Ordering::Relaxed);
        Record {
            check: self.check.to_owned(),
            target: self.target.clone(),
            taken_at: clock::now(),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome: Outcome::Unknown(if blocked { format!("{why}; it is blocked in a call") } else { why.to_owned() }),
        }
    }
}
