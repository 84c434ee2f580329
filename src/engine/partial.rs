//! Everything a run knows so far. The watchdog makes a report of it when the run does not end by itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opsctl_core::model::{HostInfo, Inventory, Outcome, Record, Report, Target, Verdict, quantity};
use opsctl_core::probe::{Redactor, clock, host, lag};

use super::assess::{Assessment, Judging, assess_but};
use super::{RECORDING_SCHEMA_VERSION, Recording};

/// No record is being judged.
const NONE: usize = usize::MAX;

/// One run: when it began, and what it knows so far.
#[derive(Clone)]
pub struct Run {
    /// From here its deadline counts.
    pub began: Instant,
    /// What it knows so far.
    pub partial: Arc<Partial>,
}

impl Run {
    /// A run whose deadline counts from `began`.
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

/// What a run is doing, for the note of one that was ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Step {
    /// Reading the configuration and opening the history.
    #[default]
    Preparing,
    /// Looking for targets.
    Discovering,
    /// Running probes.
    Probing,
    /// Removing secrets and judging.
    Judging,
    /// Reading what was changed before.
    LookingBack,
    /// Writing numbers and findings to the history.
    Remembering,
    /// Comparing, rendering and writing the report.
    Reporting,
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Self::Preparing => "reading the configuration and the history",
            Self::Discovering => "discovery",
            Self::Probing => "running probes",
            Self::Judging => "judging the evidence",
            Self::LookingBack => "reading what was changed before",
            Self::Remembering => "writing to the history",
            Self::Reporting => "writing the report",
        }
    }
}

/// One check of one target.
pub(super) struct Job {
    pub(super) check: &'static str,
    pub(super) target: Target,
    /// It has the processor, or is blocked in the kernel.
    pub(super) polled: Arc<AtomicBool>,
    pub(super) record: Option<Record>,
}

/// What a run knows so far.
pub struct Partial {
    known: Mutex<Known>,
    /// Which record is being judged.
    judged: AtomicUsize,
}

#[derive(Default)]
struct Known {
    step: Step,
    judging: Option<Arc<Judging>>,
    host: HostInfo,
    started_at: Option<Timestamp>,
    began: Option<Instant>,
    inventory: Option<Arc<Inventory>>,
    redactor: Option<Arc<Redactor>>,
    jobs: Vec<Job>,
    recording: Option<Arc<Recording>>,
    report: Option<(Report, Verdict)>,
}

impl Default for Partial {
    fn default() -> Self {
        Self { known: Mutex::default(), judged: AtomicUsize::new(NONE) }
    }
}

/// Why a check has no result at the deadline: a check that opsctl had no time for says nothing about its target.
pub(super) fn unfinished(deadline: Duration, began: Instant) -> String {
    let at = quantity::duration(deadline.try_into().unwrap_or_default());
    lag::was_late(began).map_or_else(|| format!("did not finish by the deadline ({at})"), lag::too_busy)
}

impl Partial {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run goes on with this.
    pub fn step(&self, step: Step) {
        self.lock().step = step;
    }

    /// A run begins; what an earlier one knew is forgotten.
    pub(super) fn begin(&self, judging: Arc<Judging>, host: HostInfo, began: Instant, started_at: Timestamp) {
        let new = Known {
            step: Step::Discovering,
            judging: Some(judging),
            host,
            started_at: Some(started_at),
            began: Some(began),
            ..Known::default()
        };
        // dropped without the lock
        let _before = std::mem::replace(&mut *self.lock(), new);
        self.judged.store(NONE, Ordering::Relaxed);
    }

    /// Targets are known.
    pub(super) fn discovered(&self, inventory: Arc<Inventory>, redactor: Arc<Redactor>, jobs: Vec<Job>) {
        let mut known = self.lock();
        known.step = Step::Probing;
        (known.inventory, known.redactor, known.jobs) = (Some(inventory), Some(redactor), jobs);
    }

    /// A check ended.
    pub(super) fn finished(&self, order: usize, record: Record) {
        if let Some(job) = self.lock().jobs.get_mut(order) {
            job.record = Some(record);
        }
    }

    /// Every check has a record from now on, and the records hold no secret.
    pub(super) fn complete(&self, deadline: Duration) {
        let (jobs, redactor, began) = {
            let mut known = self.lock();
            known.step = Step::Judging;
            (known.jobs.len(), known.redactor.clone().unwrap_or_default(), known.began.unwrap_or_else(Instant::now))
        };
        let why = unfinished(deadline, began);
        for order in 0..jobs {
            // each is in here all the time but for the moment that it takes to scrub it
            let record = self.lock().jobs.get_mut(order).map(|job| job.taken(&why, began));
            if let Some(mut record) = record {
                scrub(&mut record, &redactor);
                self.finished(order, record);
            }
        }
    }

    /// All that was read, in report order.
    pub(super) fn recorded(&self) -> Arc<Recording> {
        let mut known = self.lock();
        let recording = Arc::new(known.recording());
        known.recording = Some(recording.clone());
        recording
    }

    /// This record is being judged now.
    pub(super) fn judge(&self, order: usize) {
        self.judged.store(order, Ordering::Relaxed);
    }

    /// The report is made; what comes now only adds to it.
    pub(super) fn judged(&self, report: &Report, verdict: &Verdict) {
        let made = Some((report.clone(), verdict.clone()));
        let mut known = self.lock();
        known.report = made;
        known.recording = None;
    }

    /// What is known now, as an assessment: every check that has not ended is unknown. `deadline` is the one that was missed.
    #[must_use]
    pub fn assess(&self, deadline: Duration) -> Assessment {
        let at = quantity::duration(deadline.try_into().unwrap_or_default());
        let mut known = self.lock();
        let step = known.step;
        if let Some((report, verdict)) = known.report.take() {
            drop(known);
            return Assessment::of_report(report, verdict, format!("{} did not finish by the deadline ({at})", step.words()));
        }
        let began = known.began.unwrap_or_else(Instant::now);
        let judging = known.judging.clone().unwrap_or_default();
        let redactor = known.redactor.clone().unwrap_or_default();
        let mut notes = vec![format!("the watchdog ended this run at its deadline ({at}), in this step: {}", step.words())];
        let recording = match known.recording.take() {
            Some(recording) => recording,
            None => {
                let why = unfinished(deadline, began);
                notes.extend(known.blocked());
                for job in &mut known.jobs {
                    let mut record = job.taken(&why, began);
                    scrub(&mut record, &redactor);
                    job.record = Some(record);
                }
                let mut recording = known.recording();
                if known.inventory.is_none() {
                    recording.inventory.gaps.push(format!("{} did not finish by the deadline ({at})", step.words()));
                }
                Arc::new(recording)
            }
        };
        drop(known);
        // a judge that does not end would not end here either
        let but = Some(self.judged.load(Ordering::Relaxed)).filter(|order| *order != NONE && step == Step::Judging);
        let mut assessment = assess_but(&judging, &recording, but, &|_| {});
        assessment.report.notes.splice(0..0, notes);
        assessment
    }

    /// The recording of what is known, without secrets; `None` before discovery has ended.
    #[must_use]
    pub fn recording(&self, deadline: Duration) -> Option<Recording> {
        self.complete(deadline);
        let mut known = self.lock();
        known.inventory.is_some().then(|| known.recording())
    }
}

impl Job {
    /// Its record, or that it has none.
    fn taken(&mut self, why: &str, began: Instant) -> Record {
        self.record.take().unwrap_or_else(|| {
            let blocked = self.polled.load(Ordering::Relaxed);
            Record {
                check: self.check.to_owned(),
                target: self.target.clone(),
                taken_at: clock::now(),
                duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                outcome: Outcome::Unknown(if blocked { format!("{why}: it is blocked in a call") } else { why.to_owned() }),
            }
        })
    }
}

impl Known {
    /// Which checks hold up the others.
    fn blocked(&self) -> Option<String> {
        let blocked = self.jobs.iter().filter(|j| j.record.is_none() && j.polled.load(Ordering::Relaxed));
        let blocked: Vec<String> = blocked.map(|j| format!("{} {}", j.check, j.target)).collect();
        (!blocked.is_empty()).then(|| format!("blocked in a call: {}", quantity::some_of(&blocked, 4)))
    }

    /// Takes the records.
    fn recording(&mut self) -> Recording {
        Recording {
            schema_version: RECORDING_SCHEMA_VERSION,
            opsctl: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            started_at: self.started_at.unwrap_or_else(clock::now),
            duration_ms: self.began.map_or(0, |began| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            inventory: self.inventory.as_deref().cloned().unwrap_or_default(),
            records: self.jobs.iter_mut().filter_map(|job| job.record.take()).collect(),
            changes: None,
        }
    }
}

/// Only at the end all secrets are known: the log of one container can hold the password of another.
fn scrub(record: &mut Record, redactor: &Redactor) {
    match &mut record.outcome {
        Outcome::Evidence(text) => text.scrub(redactor),
        Outcome::Unknown(why) | Outcome::Skip(why) => *why = redactor.scrub(why),
    }
}
