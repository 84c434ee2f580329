//! The head of the journal in a report: every report that leaves the host has a copy of it.

use std::path::Path;
use std::time::Duration;

use opsctl_core::model::Report;
use opsctl_core::probe::blocking;
use opsctl_core::probe::kernel::host;

use crate::audit::Journal;

/// Time limit of reading the journal; the report is then made without its head. A healthy disk needs a few milliseconds.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Adds the head of the journal in this state directory, and a note if the journal was modified. A journal that this user may not
/// read is omitted.
pub async fn add_journal(report: &mut Report, state_dir: &Path, signing_key: Option<&Path>) {
    let journal = Journal::at(state_dir).signed_with(signing_key);
    let path = journal.path().display().to_string();
    let note = match blocking::run("the journal", &path, JOURNAL_TIMEOUT, move |_| journal.report()).await {
        Ok(Ok((head, note))) => {
            report.journal = Some(head);
            note
        }
        Ok(Err(e)) if e.is_permission() && !host::is_root() => None,
        Ok(Err(e)) => Some(e.to_string()),
        Err(e) => Some(e.to_string()),
    };
    report.notes.extend(note);
}
