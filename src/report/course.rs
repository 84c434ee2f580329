//! Comparison of a run with earlier reports.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, FindingHistory, FindingStatus, History, Recovered, Report, Reported};

use super::trend::trend;
use crate::state::{Episode, Store};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Period of the plotted numbers.
const TREND: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Period summarised by a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Period {
    /// The last 24 hours
    Day,
    /// The last 7 days
    Week,
    /// The last 30 days
    Month,
}

impl Period {
    /// Name in reports and in the history.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    fn length(self) -> SignedDuration {
        match self {
            Self::Day => DAY,
            Self::Week => SignedDuration::from_hours(7 * 24),
            Self::Month => SignedDuration::from_hours(30 * 24),
        }
    }
}

/// The comparison of a report with earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// History of the findings.
    pub course: History,
    /// A finding is new, worse or recovered.
    pub changed: bool,
    /// Nothing changed, but a finding is open and the last report was long ago.
    pub reminds: bool,
}

impl Compared {
    /// The open findings of this report that count, by code and subject, and whether each is flapping.
    #[must_use]
    pub fn open(&self, report: &Report) -> Vec<(String, String, bool)> {
        let flapping = |f: &Reported| self.course.of(&f.id).is_some_and(|k| k.standing == FindingStatus::Flapping);
        counting(report).map(|f| (f.code.clone(), f.subject.to_string(), flapping(f))).collect()
    }
}

fn counting(report: &Report) -> impl Iterator<Item = &Reported> {
    report.findings.iter().filter(|f| f.is_open())
}

/// Compares a report with earlier runs; the store has already observed its findings.
#[must_use]
pub fn compare(store: &Store, report: &Report, period: Option<Period>, remind_after: SignedDuration, now: Timestamp) -> Compared {
    let compared_with = store.last_reported(period.map_or("change", Period::word));
    let yesterday = now - DAY;
    let since = period.map_or(yesterday, |p| now - p.length());
    let episodes = store.episodes(since.min(yesterday).min(compared_with.unwrap_or(yesterday)));
    let mut course = course(report, &episodes, period.map(|_| since), now);
    course.compared_with = compared_with;
    course.period = period.map(|p| p.word().to_owned());
    let changed = changed(report, &course, &episodes, yesterday);
    course.trends = report
        .measures
        .iter()
        .filter_map(|m| trend(m, store.series(&crate::state::object_of(m), &m.name, now - TREND), now))
        .collect();
    let long_ago = compared_with.is_some_and(|at| now.duration_since(at) >= remind_after);
    let reminds = !changed && long_ago && counting(report).next().is_some();
    Compared { course, changed, reminds }
}

fn is_of(episode: &Episode, finding: &Finding) -> bool {
    episode.code == finding.code && episode.subject == finding.subject.to_string()
}

/// Number of episodes that began since then.
fn times(episodes: &[Episode], like: &Episode, since: Timestamp) -> u32 {
    let began = episodes.iter().filter(|e| e.code == like.code && e.subject == like.subject && e.first >= since).count();
    u32::try_from(began).unwrap_or(u32::MAX).max(1)
}

fn course(report: &Report, episodes: &[Episode], summed_since: Option<Timestamp>, now: Timestamp) -> History {
    let yesterday = now - DAY;
    let mut course = History::default();
    for finding in counting(report) {
        let open = episodes.iter().find(|e| e.closed.is_none() && is_of(e, finding));
        let times = open.map_or(1, |e| times(episodes, e, yesterday));
        let status = match open {
            Some(_) if Episode::flaps(times) => FindingStatus::Flapping,
            Some(e) if e.reported => FindingStatus::Still,
            _ => FindingStatus::New,
        };
        let first_seen = open.map_or(report.started_at, |e| e.first);
        course.findings.push(FindingHistory { finding: finding.id.clone(), standing: status, first_seen, times });
    }
    let over = |e: &&Episode| match (e.closed, summed_since) {
        (None, _) => false,
        // a digest lists every finding that recovered in its period
        (Some(closed), Some(since)) => closed >= since,
        // otherwise: reported by an earlier report, and not yet reported as recovered
        (Some(_), None) => e.reported && !e.reported_end,
    };
    let still_open = |e: &Episode| counting(report).any(|f| is_of(e, f));
    let was_flapping = |e: &Episode| {
        episodes.iter().any(|o| o.code == e.code && o.subject == e.subject && o.reported_flapping && o.last >= yesterday)
    };
    for episode in episodes.iter().filter(over) {
        let comes_and_goes = summed_since.is_none() && was_flapping(episode);
        let twice = course.recovered.iter().any(|r| r.code == episode.code && r.subject == episode.subject);
        if !still_open(episode) && !comes_and_goes && !twice {
            course.recovered.push(Recovered {
                code: episode.code.clone(),
                subject: episode.subject.clone(),
                severity: episode.severity,
                message: episode.message.clone(),
                first_seen: episode.first,
                last_seen: episode.last,
                owner: episode.owner.clone(),
            });
        }
    }
    course
}

/// Whether the report contains news compared with the last one.
fn changed(report: &Report, course: &History, episodes: &[Episode], yesterday: Timestamp) -> bool {
    let news = |finding: &Reported| {
        let known = course.of(&finding.id);
        let mut same = episodes.iter().filter(|e| is_of(e, finding));
        if known.is_some_and(|k| k.standing == FindingStatus::Flapping) {
            // flapping is reported once, not on every recurrence
            return !same.any(|e| e.reported_flapping && e.last >= yesterday);
        }
        let open = same.find(|e| e.closed.is_none());
        open.is_none_or(|e| !e.reported || e.reported_severity.is_some_and(|reported| finding.severity > reported))
    };
    !course.recovered.is_empty() || counting(report).any(news)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::Severity;
    use opsctl_core::model::{Build, CheckRow, Code, HostInfo, Kind, Object};

    use super::*;
    use crate::state::Scope;

    static DOWN: Code =
        Code { id: "container.down", severities: &[Severity::Warn, Severity::Crit], when: "", hint: "", ..Code::BASE };

    /// A report in which these containers are down.
    pub(crate) fn report(down: &[(&str, Severity)]) -> Report {
        let findings: Vec<Reported> = down
            .iter()
            .enumerate()
            .map(|(i, (name, severity))| {
                let subject = Object::named(Kind::Container, *name);
                let finding = Finding::new(&DOWN, *severity, subject, format!("{name} is down"));
                Reported { id: format!("f{i}"), ..Reported::new(finding) }
            })
            .collect();
        let names = ["web", "db"];
        let row = |name: &str| CheckRow {
            check: "container.state".into(),
            runbook: "container".into(),
            target: format!("container:{name}"),
            verdict: if down.iter().any(|(n, _)| *n == name) { "crit" } else { "ok" }.into(),
            reason: None,
            duration_ms: 1,
            findings: findings.iter().filter(|f| f.subject.name == name).map(|f| f.id.clone()).collect(),
        };
        Report {
            schema_version: 1,
            opsctl: Build { version: "0".into(), commit: "0".into() },
            host: HostInfo { hostname: "web-1".into(), ..HostInfo::default() },
            started_at: opsctl_core::probe::io::clock::now(),
            duration_ms: 1,
            verdict: "crit".into(),
            exit_code: 2,
            checks: names.into_iter().map(row).collect(),
            findings,
            causes: vec![],
            fixes: vec![],
            tables: vec![],
            measures: vec![],
            changes: vec![],
            course: None,
            journal: None,
            notes: vec![],
        }
    }

    struct Past {
        _dir: tempfile::TempDir,
        store: Store,
        runtime: tokio::runtime::Runtime,
    }

    impl Past {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let store = runtime.block_on(Store::open(&dir.path().join("state"), 14));
            Self { _dir: dir, store, runtime }
        }

        /// Simulates one report: whether it had news, and the history of its findings.
        fn deliver(&self, report: &Report) -> (bool, Vec<FindingStatus>, usize) {
            let compared = self.seen(report);
            self.runtime.block_on(self.store.mark_reported(compared.open(report), "change"));
            (compared.changed, compared.course.findings.iter().map(|k| k.standing).collect(), compared.course.recovered.len())
        }

        fn seen(&self, report: &Report) -> Compared {
            self.runtime.block_on(self.store.observe(report, Scope::Everything));
            assert_eq!(self.store.note(), None);
            compare(&self.store, report, None, DAY, opsctl_core::probe::io::clock::now())
        }
    }

    #[test]
    fn news_is_reported_once() {
        let past = Past::new();
        let (healthy, bad, worse) =
            (report(&[]), report(&[("web", Severity::Warn)]), report(&[("web", Severity::Crit), ("db", Severity::Crit)]));
        assert_eq!(past.deliver(&healthy), (false, vec![], 0));
        assert_eq!(past.deliver(&bad), (true, vec![FindingStatus::New], 0));
        assert_eq!(past.deliver(&bad), (false, vec![FindingStatus::Still], 0));
        assert_eq!(past.deliver(&worse), (true, vec![FindingStatus::Still, FindingStatus::New], 0));
        assert_eq!(past.deliver(&worse), (false, vec![FindingStatus::Still, FindingStatus::Still], 0));
        // worse and then milder again is no news
        assert!(!past.deliver(&report(&[("web", Severity::Warn), ("db", Severity::Crit)])).0);
        assert_eq!(past.deliver(&report(&[("db", Severity::Crit)])), (true, vec![FindingStatus::Still], 1));
        assert_eq!(past.deliver(&healthy), (true, vec![], 1));
        assert_eq!(past.deliver(&healthy), (false, vec![], 0));
    }

    #[test]
    fn unreported_run_keeps_the_news() {
        let past = Past::new();
        let bad = report(&[("web", Severity::Crit)]);
        past.deliver(&report(&[]));
        // a run of opsctl diagnose
        past.seen(&bad);
        assert_eq!(past.deliver(&bad), (true, vec![FindingStatus::New], 0));
    }

    #[test]
    fn flapping_finding_is_reported_once() {
        let past = Past::new();
        let (healthy, bad) = (report(&[]), report(&[("web", Severity::Crit)]));
        assert!(past.deliver(&bad).0);
        assert!(past.deliver(&healthy).0);
        assert_eq!(past.deliver(&bad), (true, vec![FindingStatus::New], 0));
        assert!(past.deliver(&healthy).0);
        assert_eq!(past.deliver(&bad), (true, vec![FindingStatus::Flapping], 0));
        for _ in 0..3 {
            assert_eq!(past.deliver(&healthy), (false, vec![], 0));
            assert_eq!(past.deliver(&bad), (false, vec![FindingStatus::Flapping], 0));
        }
    }

    #[test]
    fn unknown_check_does_not_close_a_finding() {
        let past = Past::new();
        let bad = report(&[("web", Severity::Crit)]);
        past.deliver(&bad);
        let mut blind = report(&[]);
        blind.checks[0].verdict = "unknown".into();
        assert_eq!(past.deliver(&blind), (false, vec![], 0));
        let mut elsewhere = report(&[]);
        elsewhere.checks.remove(0);
        past.runtime.block_on(past.store.observe(&elsewhere, Scope::Targets));
        assert_eq!(past.deliver(&bad), (false, vec![FindingStatus::Still], 0));
        // its target no longer exists
        assert_eq!(past.deliver(&elsewhere), (true, vec![], 1));
    }

    #[test]
    fn digest_lists_every_recovery_of_its_period() {
        let past = Past::new();
        past.deliver(&report(&[("web", Severity::Crit)]));
        past.deliver(&report(&[]));
        let healthy = report(&[]);
        let compared = compare(&past.store, &healthy, Some(Period::Day), DAY, opsctl_core::probe::io::clock::now());
        assert_eq!(compared.course.recovered.len(), 1);
        assert_eq!(compared.course.period.as_deref(), Some("day"));
    }

    #[test]
    fn open_findings_are_reminded_of() {
        let past = Past::new();
        let bad = report(&[("web", Severity::Crit)]);
        past.deliver(&bad);
        let at = |hours| {
            let now = opsctl_core::probe::io::clock::now() + SignedDuration::from_hours(hours);
            let compared = compare(&past.store, &bad, None, DAY, now);
            (compared.changed, compared.reminds)
        };
        assert_eq!((at(23), at(25)), ((false, false), (false, true)));
        let later = opsctl_core::probe::io::clock::now() + SignedDuration::from_hours(25);
        assert!(!compare(&past.store, &report(&[]), None, DAY, later).reminds);
    }

    #[test]
    fn trend_is_computed_from_earlier_runs() {
        use opsctl_core::model::{Measure, Object, Unit};
        let past = Past::new();
        let now = opsctl_core::probe::io::clock::now();
        let measure = |value| Measure::new(&Object::named(Kind::Mount, "/var"), "used", Unit::Percent, value).limits(85.0, 95.0);
        // 1 % every two hours
        let samples = (1..=40).map(|i| {
            let at = now - SignedDuration::from_hours(2 * i);
            crate::state::sample_of(&measure(76.0 - i as f64), at)
        });
        past.runtime.block_on(past.store.record(samples.collect()));
        let mut healthy = report(&[]);
        healthy.measures = vec![measure(76.0)];
        let compared = past.seen(&healthy);
        let [trend] = compared.course.trends.as_slice() else { panic!("{:?}", compared.course) };
        assert_eq!((trend.says.as_str(), trend.points.len()), ("full in 2 d", 41));
    }

    #[test]
    fn similar_episodes_are_found() {
        let past = Past::new();
        past.deliver(&report(&[("web", Severity::Crit), ("db", Severity::Crit)]));
        past.deliver(&report(&[]));
        let like = past.store.like("container.down", "container:db", 5);
        assert_eq!(like.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>(), ["container:db", "container:web"]);
        assert!(past.store.like("disk.space", "mount:/", 5).is_empty());
    }
}
