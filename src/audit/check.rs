//! Comparison of the journal with the head in the state database.
//!
//! The head is written after the entry, so the journal may be ahead of it by entries that chain on to it: opsctl was killed in between, or the
//! database could not be written. It is never behind.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use opsctl_core::model::JournalHead;
use opsctl_core::probe::io::clock;
use rustix::fs::{FlockOperation, flock};

use super::chain::{self, Fault, Position, find};
use super::key::SigningKey;
use super::{Journal, JournalError, flags};
use crate::state::head::{self, Gap, Head, Kept, Record};
use crate::state::{STATE_DB, dir};

/// Result of comparing the journal with the kept head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Neither a journal nor a head.
    Nothing,
    /// The journal ends with the head.
    Same,
    /// Entries follow the head and chain on to it.
    Ahead {
        /// The head.
        kept: Head,
        /// Number of entries after it.
        by: usize,
    },
    /// The journal was written by a version that kept no head.
    NeverKept,
    /// There is a head and no entry.
    Deleted(Head),
    /// The journal ends before the head.
    Truncated {
        /// The head.
        kept: Head,
        /// Number of the last entry.
        last: u64,
    },
    /// The entry of the head has another hash.
    Rewritten {
        /// The head.
        kept: Head,
        /// The hash in the journal.
        found: String,
    },
    /// Entries were written while a head was kept, but the database has no head.
    Lost {
        /// A corrupt database that was moved away, including the head.
        set_aside: Option<PathBuf>,
    },
    /// The head cannot be read; the reason.
    Unknown(String),
}

/// A difference that needs manual review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the difference is a sign of tampering; otherwise the comparison failed.
    pub tampering: bool,
    /// One line.
    pub text: String,
}

impl Comparison {
    /// Compares the bytes of a journal with the state database.
    #[must_use]
    pub fn of(bytes: &[u8], kept: &Kept) -> Self {
        let kept = match kept {
            Kept::Head(kept) => kept,
            Kept::Corrupt(why) | Kept::Unreadable(why) => return Self::Unknown(why.clone()),
            Kept::Absent { set_aside, .. } => {
                let mut entries = chain::lines(bytes).filter_map(chain::parse).peekable();
                return match (entries.peek().is_some(), entries.any(|e| e.head_kept)) {
                    (false, _) => Self::Nothing,
                    (true, false) => Self::NeverKept,
                    (true, true) => Self::Lost { set_aside: set_aside.clone() },
                };
            }
        };
        let kept = kept.clone();
        match find(bytes, &kept) {
            Position::Last => Self::Same,
            Position::Followed(by) => Self::Ahead { kept, by },
            Position::Absent(0) => Self::Deleted(kept),
            Position::Absent(last) => Self::Truncated { kept, last },
            Position::Differs(found) => Self::Rewritten { kept, found },
        }
    }

    /// The difference that needs manual review, if any. `db` is the state database.
    #[must_use]
    pub fn problem(&self, db: &Path) -> Option<Problem> {
        let db = db.display();
        let (tampering, text) = match self {
            Self::Nothing | Self::Same | Self::Ahead { .. } | Self::NeverKept => return None,
            Self::Deleted(kept) => (true, format!("{db} has the head {kept}, the journal has no entry: it was removed")),
            Self::Truncated { kept, last } if *last < kept.entries => {
                let from = last + 1;
                let removed =
                    if from == kept.entries { format!("entry {from}") } else { format!("entries {from} to {}", kept.entries) };
                let text = format!(
                    "{db} has the head {kept}, the journal ends with entry {last}: {removed} cut off, or the file replaced by an older copy"
                );
                (true, text)
            }
            Self::Truncated { kept, .. } => {
                (true, format!("{db} has the head {kept}, the journal has no entry {}: it was removed", kept.entries))
            }
            Self::Rewritten { kept, found } => {
                let n = kept.entries;
                (
                    true,
                    format!("{db} has the head {kept}, entry {n} of the journal has the hash {found}: the journal was rewritten"),
                )
            }
            Self::Lost { set_aside: None } => {
                let text =
                    format!("{db} has no head, although entries were written while it had one: it was removed or replaced");
                (true, text)
            }
            Self::Lost { set_aside: Some(aside) } => {
                (false, format!("{db} was corrupt and is now {}; the head of the journal was lost with it", aside.display()))
            }
            Self::Unknown(why) => (false, format!("the head of the journal could not be compared: {why}")),
        };
        Some(Problem { tampering, text })
    }
}

/// A journal that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its head.
    pub head: Head,
    /// Number of its entries.
    pub entries: usize,
    /// Faults of its lines.
    pub faults: Vec<Fault>,
    /// Comparison with the kept head.
    pub comparison: Comparison,
    /// Earlier differences that were not accepted.
    pub gaps: Vec<Gap>,
}

impl Checked {
    fn of(bytes: Vec<u8>, record: Record) -> Self {
        let (entries, faults) = chain::verify(&bytes);
        let comparison = Comparison::of(&bytes, &record.kept);
        Self { head: Head::of(&bytes), entries, faults, comparison, gaps: record.gaps, bytes }
    }

    /// Whether the lines themselves show tampering.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.faults.iter().any(|f| f.kind.is_tampering())
    }

    /// All problems, those of the lines first.
    #[must_use]
    pub fn problems(&self, db: &Path) -> Vec<Problem> {
        let lines = self.faults.iter().filter(|f| f.kind.is_tampering());
        let lines = lines.map(|f| Problem { tampering: true, text: f.to_string() });
        let before =
            self.gaps.iter().map(|g| Problem { tampering: g.tampering, text: format!("found at {:.0}: {}", g.at, g.why) });
        lines.chain(self.comparison.problem(db)).chain(before).collect()
    }
}

impl Journal {
    /// The state database that keeps the head.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir().join(STATE_DB)
    }

    /// Checks the chain and compares the journal with the head that was kept.
    pub fn check(&self) -> Result<Checked, JournalError> {
        // the head first: the journal can only grow in the meantime
        let record = head::read(self.state_dir());
        Ok(Checked::of(self.bytes()?, record))
    }

    /// Keeps the head of a journal that is ahead of the kept head, or that never had one. Whether it is kept now.
    #[must_use]
    pub fn adopt(&self, checked: &Checked) -> bool {
        if checked.broken() || !matches!(checked.comparison, Comparison::Ahead { .. } | Comparison::NeverKept) {
            return false;
        }
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags()).open(&self.path) else { return false };
        // another opsctl process that appends keeps the head itself
        if dir::ensure(self.state_dir()).is_err() || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return false;
        }
        let Ok(now) = self.check() else { return false };
        let still = matches!(now.comparison, Comparison::Ahead { .. } | Comparison::NeverKept) && !now.broken();
        still && head::keep(self.state_dir(), &now.head, clock::now(), None).is_ok()
    }

    /// The head for a report, and one line for its notes if there is a difference. A head that was not kept before is reported
    /// once, as it is kept from then on.
    pub fn report(&self) -> Result<(JournalHead, Option<String>), JournalError> {
        let checked = self.check()?;
        let problem = checked.problems(&self.database()).into_iter().next();
        let path = self.path.display();
        let never_kept = checked.comparison == Comparison::NeverKept;
        let mut note = problem.as_ref().map(|p| {
            let summary =
                if p.tampering { "the journal of changes was tampered with" } else { "the journal of changes is not verified" };
            format!("{summary} ({path}): {}; see `opsctl audit verify`", p.text)
        });
        if self.adopt(&checked) && never_kept {
            let db = self.database();
            note =
                Some(format!("no head of the journal {path} was kept before; {} has {} from now on", db.display(), checked.head));
        }
        let signature = match self.signing_key.as_deref().map(SigningKey::load).transpose() {
            Ok(key) => key.map(|key| key.sign_head(&checked.head)),
            Err(e) => {
                note.get_or_insert_with(|| format!("the head of the journal is not signed: {e}"));
                None
            }
        };
        let Head { entries, hash: head } = checked.head;
        Ok((JournalHead { file: path.to_string(), entries, head, signature, problem: problem.map(|p| p.text) }, note))
    }
}
