//! What was changed on this host, by whom and how it ended: an append-only journal, one JSON object per line, each line
//! holding the hash of the one before.
//!
//! A line is written with one `write` and synced before anything is done. A crash can leave half a line; the next
//! append begins on a fresh line and its hash covers the torn bytes, so that a crash and an edit can be told apart.
//!
//! The head of the chain (number and hash of the last entry) is kept in the state database and printed in reports: the chain alone does not show
//! that entries were cut off, that everything was written again with new hashes, or that the file was removed.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

mod chain;
mod check;
pub mod dir;
mod entry;
mod key;

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Kind as Object, Subject};
use opsctl_core::probe::{REDACTED, Redactor, clock};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};

use crate::watchdog;
pub use chain::{Fault, Head, Position, Signatures, Wrong, find, signatures, verify};
pub use check::{Checked, Comparison, Problem};
pub use entry::{Body, Ending, Entry, Kind, Who};
pub use key::{PublicKey, SigningKey};

use crate::fix::failpoint;
use crate::state::head::{self, Gap, Kept};

/// File of the journal in the state directory.
pub const JOURNAL: &str = "journal.jsonl";

/// Space kept allocated behind the end of the journal, in bytes: a fix for a full filesystem must still be able to say what it does.
const RESERVE: u64 = 128 << 10;

/// How long one access may take: an exclusive lock that another process holds, a disk that does not answer.
const TIMEOUT: Duration = Duration::from_secs(35);

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the journal {path}: {source}")]
pub struct JournalError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl JournalError {
    /// Whether another user, mostly root, may do it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// Proof that an intent or undo is on disk: without one there is no permit to act.
#[derive(Debug)]
pub struct Receipt {
    seq: u64,
}

impl Receipt {
    /// Number of the entry.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// For a child of a test whose parent has written the entry.
    #[cfg(test)]
    pub(crate) fn of_test(seq: u64) -> Self {
        Self { seq }
    }
}

/// Treatment of the head that was kept before an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A difference is recorded.
    Compared,
    /// A difference is accepted.
    Accepted,
}

/// The journal of a host (of a user, without root).
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    run: String,
    signing_key: Option<PathBuf>,
}

impl Journal {
    /// The journal in this state directory. Nothing is opened or made yet.
    #[must_use]
    pub fn at(state_dir: &Path) -> Self {
        let run = format!("{:x}-{:x}", clock::now().as_millisecond(), std::process::id());
        Self { path: state_dir.join(JOURNAL), run, signing_key: None }
    }

    /// The same with every entry and every reported head signed with the key in this file. The key of root signs root's journal: another user
    /// cannot read it and has a journal without signatures.
    #[must_use]
    pub fn signed_with(self, key: Option<&Path>) -> Self {
        let us = rustix::process::geteuid();
        let ours = |key: &&Path| us.is_root() || std::fs::metadata(key).is_ok_and(|meta| meta.uid() == us.as_raw());
        Self { signing_key: key.filter(ours).map(Path::to_owned), ..self }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn state_dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn error(&self, doing: &'static str) -> impl FnOnce(io::Error) -> JournalError {
        let path = self.path.clone();
        move |source| JournalError { doing, path, source }
    }

    /// Writes one line and waits until it is on disk. Secrets are removed before. Then the state database keeps the new head, if it can: a
    /// database that cannot be written must not prevent a fix, and is noticed by the next check.
    pub fn append(&self, body: Body, redactor: &Redactor) -> Result<Receipt, JournalError> {
        // a line that is cut is found by the next one; what has no line yet was not done
        let _limit = watchdog::for_now("writing to the journal", TIMEOUT, None);
        self.append_at(body, redactor, clock::now(), Before::Compared).map_err(self.error("writing to"))
    }

    /// Writes `reason` as a note and accepts the journal as it is: the state database keeps its head and forgets what differed before.
    pub fn accept(&self, reason: &str) -> Result<Receipt, JournalError> {
        let body = Body::new(Kind::Note, reason);
        self.append_at(body, &Redactor::default(), clock::now(), Before::Accepted).map_err(self.error("writing to"))
    }

    fn append_at(&self, body: Body, redactor: &Redactor, at: Timestamp, before: Before) -> io::Result<Receipt> {
        let dir = self.state_dir();
        dir::ensure(dir)?;
        let key = self.signing_key.as_deref().map(SigningKey::load).transpose()?;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags()).open(&self.path)?;
        // released when the file is closed
        flock(&file, FlockOperation::LockExclusive)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let last = chain::lines(&bytes).last();
        let seq = chain::lines(&bytes).filter_map(chain::parse).map(|e| e.seq).max().unwrap_or(0).saturating_add(1);
        let head_kept = match before {
            Before::Compared => self.reconcile(&bytes, at),
            Before::Accepted => match head::read(dir).kept {
                Kept::Unreadable(why) => return Err(io::Error::other(why)),
                kept => matches!(kept, Kept::Head(_)),
            },
        };
        let entry = Entry {
            seq,
            prev: last.map_or_else(|| chain::GENESIS.to_owned(), chain::digest),
            at,
            run: self.run.clone(),
            by: Who::of_process(),
            head_kept,
            sig: None,
            body,
        };
        let mut json = serde_json::to_value(&entry)?;
        redactor.scrub_json(&mut json);
        scrub_arguments(&mut json, redactor);
        // the hash must not be taken for a token
        json["prev"] = entry.prev.into();
        let sealed = chain::seal(&json.to_string(), key.as_ref().map(|key| |text: &[u8]| key.sign(text)));
        let mut line = Vec::new();
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            line.push(b'\n');
        }
        line.extend_from_slice(sealed.as_bytes());
        line.push(b'\n');
        let end = file.seek(SeekFrom::End(0))?;
        // where the filesystem cannot reserve, the write decides
        let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, end, line.len() as u64 + RESERVE);
        if let Err(e) = file.write_all(&line) {
            // half a line is of no use; should this fail too, the next append ends it
            let _ = file.set_len(end);
            return Err(e);
        }
        file.sync_all()?;
        if bytes.is_empty() {
            dir::sync(dir)?;
        }
        failpoint("before-head");
        let head = Head { entries: seq, hash: chain::digest(sealed.as_bytes()) };
        match before {
            Before::Compared if head_kept => {
                if let Err(why) = head::keep(dir, &head, at, None) {
                    tracing::warn!(why, "the head of the journal was not kept");
                }
            }
            Before::Compared => {}
            Before::Accepted => head::accept(dir, &head, at).map_err(io::Error::other)?,
        }
        Ok(Receipt { seq })
    }

    /// Compares the journal with the head that was kept, before an entry hides the difference: what differs is recorded beside the head until it
    /// is accepted. Whether the state database has the head of these bytes now.
    fn reconcile(&self, bytes: &[u8], at: Timestamp) -> bool {
        let dir = self.state_dir();
        let kept = head::read(dir).kept;
        let comparison = Comparison::of(bytes, &kept);
        let gap = match (&comparison, &kept) {
            (Comparison::Same, _) => return true,
            // locked, or made by a newer opsctl: neither read nor written
            (Comparison::Unknown(_), Kept::Unreadable(_)) => return false,
            _ => comparison.problem(&self.database()).map(|p| Gap { at, tampering: p.tampering, why: p.text }),
        };
        head::keep(dir, &Head::of(bytes), at, gap.as_ref()).is_ok()
    }

    /// The bytes of the journal; none when there is none.
    pub fn bytes(&self) -> Result<Vec<u8>, JournalError> {
        let read = || {
            dir::check(self.state_dir())?;
            read_file(&self.path, OFlags::NOFOLLOW | OFlags::NONBLOCK)
        };
        match read() {
            Ok(bytes) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(self.error("reading")(e)),
        }
    }

    /// All entries, oldest first; torn and foreign lines are left out ([`verify`] reports them).
    pub fn entries(&self) -> Result<Vec<Entry>, JournalError> {
        let _limit = watchdog::for_now("reading the journal", TIMEOUT, None);
        Ok(chain::lines(&self.bytes()?).filter_map(chain::parse).collect())
    }
}

/// The bytes of a copy of a journal that is elsewhere.
pub fn read_copy(path: &Path) -> Result<Vec<u8>, JournalError> {
    let error = |source| JournalError { doing: "reading", path: path.to_owned(), source };
    read_file(path, OFlags::NONBLOCK).map_err(error)
}

fn read_file(path: &Path, flags: OFlags) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(raw(flags)).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map(|_| bytes)
}

/// Removes the values of options like `--password VALUE`, which stand in a string of their own.
fn scrub_arguments(json: &mut serde_json::Value, redactor: &Redactor) {
    use serde_json::Value;
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(words) if name == "argv" => {
                        for i in 1..words.len() {
                            let pair = [words[i - 1].as_str(), words[i].as_str()].map(Option::unwrap_or_default).join(" ");
                            if redactor.scrub(&pair) != pair {
                                words[i] = REDACTED.into();
                            }
                        }
                    }
                    inner => scrub_arguments(inner, redactor),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub_arguments(item, redactor)),
        _ => {}
    }
}

/// A link or a pipe in its place is not the journal.
fn flags() -> i32 {
    raw(OFlags::NOFOLLOW | OFlags::NONBLOCK)
}

fn raw(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}

/// Intents and undos that no outcome belongs to: opsctl was killed while it acted.
#[must_use]
pub fn in_flight(entries: &[Entry]) -> Vec<&Entry> {
    let ended: std::collections::HashSet<u64> =
        entries.iter().filter(|e| e.body.kind == Kind::Outcome).filter_map(|e| e.body.of).collect();
    entries.iter().filter(|e| matches!(e.body.kind, Kind::Intent | Kind::Undo) && !ended.contains(&e.seq)).collect()
}

/// How often fixes were applied within the last hour, by what they share with a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// This fix, to this subject: the same name, or the same object under another name.
    pub to_subject: usize,
    /// This fix, to any subject.
    pub of_fix: usize,
    /// Any fix.
    pub on_host: usize,
}

impl Applied {
    /// Counts the intents of the journal. Entries dated in the future count: a clock that was set back must not open the breaker.
    #[must_use]
    pub fn within_hour(entries: &[Entry], fix: &str, subject: &Subject, now: Timestamp) -> Self {
        let since = now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        let intents: Vec<&Body> =
            entries.iter().filter(|e| e.body.kind == Kind::Intent && e.at >= since).map(|e| &e.body).collect();
        let of_fix = || intents.iter().filter(|b| b.fix.as_deref() == Some(fix));
        let same = |b: &&&Body| b.subject.as_ref().is_some_and(|s| is_same_object(s, subject));
        Self { to_subject: of_fix().filter(same).count(), of_fix: of_fix().count(), on_host: intents.len() }
    }
}

/// The same name or the same object. A container keeps its id when it is renamed or restarted; the start is the part behind `@`.
fn is_same_object(a: &Subject, b: &Subject) -> bool {
    let lasting = |s: &Subject| match s.kind {
        Object::Container => s.identity.split('@').next().unwrap_or_default().to_owned(),
        _ => s.identity.clone(),
    };
    a.kind == b.kind && (a.name == b.name || lasting(a) == lasting(b))
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod tests;
