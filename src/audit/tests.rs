#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use opsctl_core::model::{Object, Plan, Risk};
use proptest::prelude::*;

use super::*;

fn subject(name: &str) -> Object {
    Object { kind: ObjectKind::Container, name: name.into(), id: format!("{}@2026-01-01T00:00:00Z", "a".repeat(64)) }
}

fn plan(name: &str) -> Plan {
    Plan {
        fix: "container.start".into(),
        risk: Risk::R2,
        subject: subject(name),
        part: String::new(),
        check: "container.state".into(),
        target: Object::named(ObjectKind::Container, name),
        code: "container.down".into(),
        actions: vec![],
        undo: vec![],
        blast: vec![],
        downtime: "none".into(),
        recurs: None,
        verify_within: std::time::Duration::from_secs(1),
        stable_for: std::time::Duration::ZERO,
    }
}

pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) journal: Journal,
    redactor: Redactor,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(&dir.path().join("state"));
        Self { dir, journal, redactor: Redactor::default() }
    }

    pub(super) fn add(&self, body: Body) -> u64 {
        self.journal.append(body, &self.redactor).unwrap().seq()
    }

    pub(super) fn three(&self) {
        let intent = self.add(Body::intent(&plan("web"), "it is broken"));
        self.add(Body::outcome(intent, None, None, Ending::Verified, "fine"));
        self.add(Body::new(Kind::Note, "hello"));
    }

    pub(super) fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.journal.path()).unwrap();
        std::fs::write(self.journal.path(), change(text)).unwrap();
    }

    pub(super) fn faults(&self) -> Vec<(usize, FaultKind)> {
        verify(&self.journal.bytes().unwrap()).1.into_iter().map(|f| (f.line, f.kind)).collect()
    }
}

#[test]
fn written_entries_are_read_and_verified() {
    let f = Fixture::new();
    assert_eq!(f.journal.entries().unwrap(), []);
    f.three();
    let entries = f.journal.entries().unwrap();
    assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries[0].body.plan.as_ref(), Some(&plan("web")));
    assert_eq!((entries[0].prev.as_str(), f.faults()), (chain::GENESIS, vec![]));
    let meta = std::fs::metadata(f.journal.path()).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(f.dir.path().join("state")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn edited_line_is_named_at_any_position() {
    for line in 1..=3 {
        let f = Fixture::new();
        f.three();
        f.edit(|text| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines[line - 1] = lines[line - 1].replace("\"uid\":", "\"uid\":1");
            lines.join("\n") + "\n"
        });
        assert_eq!(f.faults(), [(line, FaultKind::Edited)]);
    }
}

#[test]
fn removed_added_and_exchanged_lines_are_detected() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect());
    assert_eq!(f.faults(), [(2, FaultKind::Missing { first: 2, last: 2 })]);
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.split_inclusive('\n').skip(1).collect());
    assert_eq!(f.faults(), [(1, FaultKind::Missing { first: 1, last: 1 })]);
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.replacen('\n', "\n{}\n", 1));
    assert_eq!(f.faults(), [(2, FaultKind::Edited)]);
}

#[test]
fn torn_line_is_distinguished_from_an_edit() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text[..text.len() - 40].to_owned());
    assert_eq!(f.faults(), [(3, FaultKind::Torn)]);
    assert_eq!(f.add(Body::new(Kind::Note, "after the crash")), 3);
    assert_eq!(f.faults(), [(3, FaultKind::Torn)]);
    assert_eq!(f.journal.entries().unwrap().last().unwrap().body.text, "after the crash");
    // an edit of the torn line
    f.edit(|text| text.replace("hello", "hallo"));
    assert_eq!(f.faults(), [(3, FaultKind::Edited)]);
}

#[test]
fn missing_newline_is_tolerated() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.trim_end().to_owned());
    assert_eq!((f.faults(), f.journal.entries().unwrap().len()), (vec![], 3));
    assert_eq!(f.add(Body::new(Kind::Note, "next")), 4);
    assert_eq!(f.faults(), []);
}

#[test]
fn unwritable_journal_returns_no_receipt() {
    let f = Fixture::new();
    std::fs::create_dir(f.dir.path().join("state")).unwrap();
    std::os::unix::fs::symlink(f.dir.path().join("elsewhere"), f.journal.path()).unwrap();
    let error = f.journal.append(Body::new(Kind::Note, ""), &f.redactor).unwrap_err().to_string();
    assert!(error.starts_with("writing to the journal ") && error.contains("journal.jsonl"), "{error}");
    assert!(!f.dir.path().join("elsewhere").exists());
}

#[test]
fn secrets_are_removed() {
    let f = Fixture::new();
    f.redactor.learn_environment(["API_TOKEN=canary-93kd-xyzzy"]);
    f.add(Body::new(Kind::Note, "failed with canary-93kd-xyzzy and postgres://u:hunter22@db/x"));
    let text = std::fs::read_to_string(f.journal.path()).unwrap();
    assert!(!text.contains("canary-93kd") && !text.contains("hunter22"), "{text}");
    assert_eq!(f.faults(), []);
}

#[test]
fn in_flight_entries() {
    let f = Fixture::new();
    f.three();
    let second = f.add(Body::intent(&plan("db"), "it is broken"));
    let undo = f.add(Body::undo(&f.journal.entries().unwrap()[0]));
    let entries = f.journal.entries().unwrap();
    assert_eq!(in_flight(&entries).iter().map(|e| e.seq).collect::<Vec<_>>(), [second, undo]);
    f.add(Body::outcome(second, None, None, Ending::Interrupted, ""));
    let entries = f.journal.entries().unwrap();
    assert_eq!(in_flight(&entries).iter().map(|e| e.seq).collect::<Vec<_>>(), [undo]);
}

impl Fixture {
    fn applied(&self, subject: &Object) -> (usize, usize, usize) {
        let applied = Applied::within_hour(&self.journal.entries().unwrap(), "container.start", subject, clock::now());
        (applied.to_subject, applied.of_fix, applied.on_host)
    }

    fn intent_at(&self, plan: &Plan, minutes: i64) {
        let at = clock::now() + SignedDuration::from_mins(minutes);
        self.journal.append_at(Body::intent(plan, "it is broken"), &self.redactor, at, Before::Compared).unwrap();
    }
}

#[test]
fn rate_limit_counts_the_last_hour_and_the_future() {
    let f = Fixture::new();
    for (name, minutes) in [("web", -61), ("web", -59), ("web", 600)] {
        f.intent_at(&plan(name), minutes);
    }
    assert_eq!(f.applied(&subject("web")), (2, 2, 2));
}

#[test]
fn rate_limit_follows_a_renamed_or_restarted_container() {
    let f = Fixture::new();
    f.intent_at(&plan("web"), -1);
    let id = "a".repeat(64);
    let renamed = Object { id: format!("{id}@2026-02-02T00:00:00Z"), ..subject("innocent") };
    assert_eq!(f.applied(&renamed), (1, 1, 1));
    // recreated under the same name
    assert_eq!(f.applied(&Object { id: format!("{}@x", "b".repeat(64)), ..subject("web") }), (1, 1, 1));
}

#[test]
fn rate_limit_per_fix_and_subject() {
    let f = Fixture::new();
    let other = |name: &str, id: &str| Object { id: id.into(), ..subject(name) };
    f.intent_at(&Plan { fix: "container.restart".into(), ..plan("web") }, -1);
    f.intent_at(&Plan { subject: other("db", "b"), ..plan("db") }, -1);
    assert_eq!(f.applied(&subject("web")), (0, 1, 2));
    // a unit of that name is another object
    assert_eq!(f.applied(&Object { kind: ObjectKind::Unit, ..other("db", "b") }), (0, 1, 2));
    f.add(Body::new(Kind::Note, "not a fix"));
    assert_eq!(f.applied(&other("db", "c")), (1, 1, 2));
}

#[test]
fn two_writers_keep_the_chain() {
    let f = Fixture::new();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..10).map(|_| f.add(Body::new(Kind::Note, "x"))).sum::<u64>());
        }
    });
    assert_eq!(verify(&f.journal.bytes().unwrap()), (40, vec![]));
}

proptest! {
    #[test]
    fn entry_is_added_after_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let f = Fixture::new();
        std::fs::create_dir(f.dir.path().join("state")).unwrap();
        std::fs::set_permissions(f.dir.path().join("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(f.journal.path(), &bytes).unwrap();
        prop_assert_eq!(f.add(Body::new(Kind::Note, "after")), 1);
        prop_assert_eq!(f.journal.entries().unwrap().len(), 1);
    }

    #[test]
    fn truncated_line_is_harmless_and_changed_byte_is_tampering(cut in 1usize..200, at in 0usize..10_000) {
        let f = Fixture::new();
        f.three();
        let whole = f.journal.bytes().unwrap();
        let cut = &whole[..whole.len() - cut];
        prop_assert!(verify(cut).1.iter().all(|fault| !fault.kind.is_tampering()));
        let mut changed = whole.clone();
        let at = at % (whole.len() - 1);
        changed[at] ^= 1;
        prop_assert!(verify(&changed).1.iter().any(|fault| fault.kind.is_tampering()), "byte {}", at);
    }
}
