//! The journal of changes to this host with user and result: append-only, one JSON object per line, each line with the hash of
//! the previous line.
//!
//! A line is written with one `write` and synced before the action. A crash can leave an incomplete line; the next append begins on a new
//! line and its hash covers the torn bytes, so that a crash can be distinguished from an edit.
//!
//! The head of the chain (number and hash of the last entry) is kept in the state database and printed in reports: the chain alone does not
//! detect entries that were cut off, a journal rewritten with new hashes, or a removed file.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

mod chain;
mod check;
mod entry;
mod key;

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Kind as ObjectKind, Object};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::{REDACTED, Redactor};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};

pub use crate::state::head::Head;
pub use chain::{Fault, FaultKind, Position, Signatures, find, signatures, verify};
pub use check::{Checked, Comparison, Problem};
pub use entry::{Author, Body, Ending, Entry, Kind};
pub use key::{PublicKey, SigningKey};

use crate::failpoint::failpoint;
use crate::state::dir;
use crate::state::head::{self, Gap, Kept};
use crate::watchdog;

/// File of the journal in the state directory.
pub const JOURNAL: &str = "journal.jsonl";

/// Space preallocated behind the end of the journal, in bytes, so that a fix for a full filesystem can be journaled.
const RESERVE_BYTES: u64 = 128 << 10;

/// Time limit of one access, which can wait for the lock of another process or an unresponsive disk.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(35);

/// An error of accessing the journal.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the journal {path}: {source}")]
pub struct JournalError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl JournalError {
    /// Whether permission was denied.
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

    /// For the child process of a test: the parent has written the entry.
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
    /// The journal in this state directory. Nothing is opened or created yet.
    #[must_use]
    pub fn at(state_dir: &Path) -> Self {
        let run = format!("{:x}-{:x}", clock::now().as_millisecond(), std::process::id());
        Self { path: state_dir.join(JOURNAL), run, signing_key: None }
    }

    /// Signs every entry and every reported head with the key in this file. Only root's journal is signed: other users cannot read the key, and
    /// their journals have no signatures.
    #[must_use]
    pub fn signed_with(self, key: Option<&Path>) -> Self {
        let uid = rustix::process::geteuid();
        let is_own = |key: &&Path| uid.is_root() || std::fs::metadata(key).is_ok_and(|meta| meta.uid() == uid.as_raw());
        Self { signing_key: key.filter(is_own).map(Path::to_owned), ..self }
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

    /// Writes one line, without secrets, and waits until it is on disk. Then the new head is written to the state database, if possible: a
    /// database that cannot be written must not prevent a fix, and is detected by the next check.
    pub fn append(&self, body: Body, redactor: &Redactor) -> Result<Receipt, JournalError> {
        // the next append detects an incomplete line; an action without a line was not executed
        let _limit = watchdog::for_now("writing to the journal", ACCESS_TIMEOUT, None);
        self.append_at(body, redactor, clock::now(), Before::Compared).map_err(self.error("writing to"))
    }

    /// Writes `reason` as a note and accepts the journal as it is: the state database keeps its head and drops the recorded differences.
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
            by: Author::of_process(),
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
        // if the filesystem does not support it, the write reports a full disk
        let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, end, line.len() as u64 + RESERVE_BYTES);
        if let Err(e) = file.write_all(&line) {
            // remove the incomplete line; if this fails too, the next append terminates it
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

    /// Compares the journal with the kept head before a new entry hides the difference: a difference is stored beside the head until it is
    /// accepted. Whether the state database has the head of these bytes now.
    fn reconcile(&self, bytes: &[u8], at: Timestamp) -> bool {
        let dir = self.state_dir();
        let kept = head::read(dir).kept;
        let comparison = Comparison::of(bytes, &kept);
        let gap = match (&comparison, &kept) {
            (Comparison::Same, _) => return true,
            // locked, or created by a newer opsctl: neither read nor written
            (Comparison::Unknown(_), Kept::Unreadable(_)) => return false,
            _ => comparison.problem(&self.database()).map(|p| Gap { at, tampering: p.tampering, why: p.text }),
        };
        head::keep(dir, &Head::of(bytes), at, gap.as_ref()).is_ok()
    }

    /// The bytes of the journal; empty if it does not exist.
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
        let _limit = watchdog::for_now("reading the journal", ACCESS_TIMEOUT, None);
        Ok(chain::lines(&self.bytes()?).filter_map(chain::parse).collect())
    }
}

/// The bytes of a copy of a journal.
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

/// Removes the values of options like `--password VALUE`, which are separate strings.
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

/// Flags that reject a symbolic link or a FIFO in place of the journal.
fn flags() -> i32 {
    raw(OFlags::NOFOLLOW | OFlags::NONBLOCK)
}

fn raw(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}

/// Intents and undos without an outcome: opsctl was killed during the action.
#[must_use]
pub fn in_flight(entries: &[Entry]) -> Vec<&Entry> {
    let ended: std::collections::HashSet<u64> =
        entries.iter().filter(|e| e.body.kind == Kind::Outcome).filter_map(|e| e.body.of).collect();
    entries.iter().filter(|e| matches!(e.body.kind, Kind::Intent | Kind::Undo) && !ended.contains(&e.seq)).collect()
}

/// Number of fixes applied within the last hour, by scope.
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
    /// Counts the intents of the journal. Entries dated in the future count: a clock that was set back must not reset the rate limit.
    #[must_use]
    pub fn within_hour(entries: &[Entry], fix: &str, subject: &Object, now: Timestamp) -> Self {
        let since = now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        let intents: Vec<&Body> =
            entries.iter().filter(|e| e.body.kind == Kind::Intent && e.at >= since).map(|e| &e.body).collect();
        let of_fix = || intents.iter().filter(|b| b.fix.as_deref() == Some(fix));
        let same = |b: &&&Body| b.subject.as_ref().is_some_and(|s| is_same_object(s, subject));
        Self { to_subject: of_fix().filter(same).count(), of_fix: of_fix().count(), on_host: intents.len() }
    }
}

/// The same name or the same object. A container keeps its id when it is renamed or restarted; the start is the part behind `@`.
fn is_same_object(a: &Object, b: &Object) -> bool {
    // a reused pid is another process
    let lasting = |o: &Object| if o.kind == ObjectKind::Container { o.lasting_id().to_owned() } else { o.id.clone() };
    a.kind == b.kind && (a.name == b.name || lasting(a) == lasting(b))
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod tests;
