//! Changes that opsctl records itself: notes, fixes, waivers, steps of the clock between runs. `probe::changes` reads those of the
//! host, `correlate` selects those cited with a finding.

mod clock;
mod fold;
mod notes;

use std::path::Path;

use jiff::Timestamp;
use opsctl_core::model::{Change, ChangeKind, Changes, EVERYTHING};

use crate::audit::{Ending, Entry, Journal, Kind};
use crate::state::Store;
use crate::waive;

pub use clock::sample as clock_sample;
pub use fold::fold;
pub use notes::{NOTES, Note, add, load};

/// Reads them from the state directory, in no order.
#[must_use]
pub fn own(state_dir: &Path, store: &Store, boot_id: &str, since: Timestamp) -> Changes {
    let mut own = Changes { since, ..Changes::default() };
    match notes::load(state_dir) {
        Ok(notes) => own.changes.extend(notes.into_iter().map(note)),
        Err(e) => own.unknown.push(e.to_string()),
    }
    match Journal::at(state_dir).entries() {
        Ok(entries) => own.changes.extend(entries.iter().filter_map(|e| acted(e, &entries))),
        Err(e) => own.unknown.push(e.to_string()),
    }
    // the report has its own note about waivers that cannot be read
    own.changes.extend(waive::load(state_dir).unwrap_or_default().iter().filter_map(waived));
    own.changes.extend(clock::steps(store, boot_id, since));
    own.changes.retain(|c| c.at >= since);
    own
}

fn note(n: Note) -> Change {
    let mut change = Change::new(n.at, ChangeKind::Note, n.kind, n.text).by(Some(n.by));
    // a note does not name the affected object
    change.concerns = vec![EVERYTHING.to_owned()];
    change
}

/// A fix that was applied or reverted, at the time of its outcome.
fn acted(entry: &Entry, all: &[Entry]) -> Option<Change> {
    let (fix, subject) = (entry.body.fix.as_ref()?, entry.body.subject.as_ref()?);
    if entry.body.kind != Kind::Outcome {
        return None;
    }
    let of = all.iter().find(|e| Some(e.seq) == entry.body.of);
    let description = match (entry.body.ending?, of.is_some_and(|e| e.body.kind == Kind::Undo)) {
        (ending, true) => format!("fix {fix} reverted, {ending}"),
        (Ending::Failed, false) => format!("fix {fix} tried, failed"),
        (ending, false) => format!("fix {fix} applied, {ending}"),
    };
    // the user is that of the intent: a later run can have written the outcome
    let by = of.map_or_else(|| entry.by.to_string(), |e| e.by.to_string());
    Some(Change::new(entry.at, ChangeKind::Opsctl, subject.to_string(), description).by(Some(by)))
}

/// A waiver of the command line, at the time of its creation.
fn waived(waiver: &waive::Waiver) -> Option<Change> {
    let waive::Window::Once { from, .. } = waiver.window else { return None };
    let description = format!("waived, {}", waiver.tag.words());
    let mut change = Change::new(from, ChangeKind::Opsctl, waiver.which.to_string(), description).by(Some(&waiver.by));
    // it changes the report, not the host
    change.concerns.clear();
    Some(change)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::Object;
    use opsctl_core::probe::Redactor;

    use super::*;
    use crate::audit::Body;

    #[tokio::test(flavor = "current_thread")]
    async fn fixes_and_notes_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let journal = Journal::at(&state);
        let intent = Body { fix: Some("nginx.reload".into()), subject: Some(Object::host()), ..Body::new(Kind::Intent, "") };
        let of = journal.append(intent.clone(), &Redactor::default()).unwrap().seq();
        let ended = Body::outcome(of, intent.fix.clone(), intent.subject.clone(), Ending::Verified, "");
        journal.append(ended, &Redactor::default()).unwrap();
        let undo = Body { kind: Kind::Undo, of: Some(of), ..intent };
        let undone = journal.append(undo.clone(), &Redactor::default()).unwrap().seq();
        journal.append(Body::outcome(undone, undo.fix, undo.subject, Ending::Verified, ""), &Redactor::default()).unwrap();
        add(&state, Note { at: Timestamp::UNIX_EPOCH, kind: "deploy".into(), text: "shop 1".into(), by: "root".into() }).unwrap();

        let store = Store::open(&state, 14).await;
        let own = |since| own(&state, &store, "b", since);
        let all = own(Timestamp::UNIX_EPOCH);
        let texts: Vec<String> = all.changes.iter().map(|c| c.what.clone()).collect();
        assert_eq!(texts, ["shop 1", "fix nginx.reload applied, verified", "fix nginx.reload reverted, verified"]);
        assert_eq!(all.unknown, [""; 0]);
        assert_eq!(own(Timestamp::from_second(1).unwrap()).changes.len(), 2);
        std::fs::write(NOTES.path(&state), "garbage").unwrap();
        assert!(own(Timestamp::UNIX_EPOCH).unknown[0].contains("notes.json cannot be read"));
    }
}
