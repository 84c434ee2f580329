//! Undo of fixes.

use opsctl_core::model::{Action, Plan};

use super::scripted::*;
use super::*;
use crate::audit::Body;

/// A fixture with an applied fix: intent 1, outcome 2.
fn applied(change: impl FnOnce(Plan) -> Plan) -> Fixture {
    let mut f = Fixture::new();
    let plan = change(f.plan());
    f.engine.returns(failing(&plan)).returns(healthy());
    assert_eq!(f.fix(&offer(&plan)), Exit::Done);
    f.engine.returns(failing(&plan));
    f
}

#[test]
fn outcome_is_reverted_once() {
    let mut f = applied(|p| p);
    assert!(f.marker.exists());
    assert_eq!(f.undo(2), Exit::Done);
    assert!(!f.marker.exists());
    let kinds: Vec<_> = f.journal().iter().map(|e| (e.body.kind, e.body.of)).collect();
    assert_eq!(kinds[2..], [(Kind::Undo, Some(1)), (Kind::Outcome, Some(3))]);
    assert!(f.output().contains("reverted; demo.check reports: web is broken"), "{}", f.output());
    for entry in [1, 2] {
        assert_eq!(f.undo(entry), Exit::Refused);
    }
    assert!(f.output().contains("entry 1 was already reverted at "));
    assert_eq!(f.journal().len(), 4);
}

#[test]
fn undo_without_a_revertible_fix_is_refused() {
    let mut f = applied(|p| Plan { undo: vec![], ..p });
    assert_eq!(f.undo(2), Exit::Refused);
    assert!(f.output().contains("demo.repair cannot be reverted"));
    assert_eq!(f.undo(99), Exit::Refused);
    let note = f.append(Body::new(Kind::Note, "hello"));
    assert_eq!(f.undo(note), Exit::Refused);
    assert!(f.output().contains("entry 3 is not about a fix that was applied"));

    let words = ["set", "--password", "hunter2x"].map(str::to_owned).to_vec();
    let mut f = applied(|p| Plan { undo: vec![Action::Run { argv: words }], ..p });
    assert!(!std::fs::read_to_string(f.state.join(crate::audit::JOURNAL)).unwrap().contains("hunter2x"));
    assert_eq!(f.undo(2), Exit::Refused);
    assert!(f.output().contains("contain a secret"), "{}", f.output());

    let mut f = Fixture::new();
    let plan = f.plan();
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified);
    assert_eq!(f.undo(2), Exit::Refused);
    assert!(f.output().contains("entry 1 was reverted immediately"));
}

#[test]
fn undo_requires_consent_and_lock_and_may_fail() {
    let mut f = applied(|p| p);
    f.options = FixOptions::default();
    assert_eq!(f.undo(2), Exit::Declined);
    f.options.dry_run = true;
    assert_eq!(f.undo(2), Exit::Declined);
    assert!(f.marker.exists() && f.journal().len() == 2);
    f.options = FixOptions { yes: true, ..FixOptions::default() };
    let other = Lock::take(&f.lock).unwrap();
    assert_eq!(f.undo(2), Exit::Held);
    drop(other);
    std::fs::remove_file(&f.marker).unwrap();
    assert_eq!(f.undo(2), Exit::Failed);
    assert_eq!(f.last().ending, Some(Ending::Failed));
    // a failed undo may be repeated
    std::fs::write(&f.marker, "").unwrap();
    assert_eq!(f.undo(2), Exit::Done);
}

#[test]
fn interrupted_fix_can_be_reverted() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.append(Body::intent(&plan, "it is broken"));
    std::fs::write(&f.marker, "").unwrap();
    f.engine.returns(healthy());
    assert_eq!(f.undo(1), Exit::Done);
    assert!(!f.marker.exists());
}

#[test]
fn undo_is_refused_if_the_container_cannot_be_inspected() {
    let mut f = applied(|p| Plan { undo: vec![Action::StopContainer { id: "a".repeat(64), timeout_s: 1 }], ..p });
    assert_eq!(f.undo(2), Exit::Changed);
    assert!(f.output().contains("changed since the fix: the container engine does not answer"));
}
