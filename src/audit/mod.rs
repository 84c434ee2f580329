//! What was changed on this host, by whom and how it ended: an append-only journal, one JSON object per line, each line
//! holding the hash of the one before.
//!
//! A line is written with one `write` and synced before anything is done. A crash can leave half a line; the next
//! append begins on a fresh line and its hash covers the torn bytes, so that a crash and an edit can be told apart.

mod chain;
pub mod dir;
mod entry;

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Kind as Object, Subject};
use opsctl_core::probe::{REDACTED, Redactor, clock};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};

pub use chain::{Fault, Wrong, verify};
pub use entry::{Body, Ending, Entry, Kind, Who};

/// File of the journal in the state directory.
pub const JOURNAL: &str = "journal.jsonl";

/// Space kept allocated behind the end of the journal, in bytes: a fix for a full filesystem must still be able to say what it does.
const RESERVE: u64 = 128 << 10;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the journal {path}: {source}")]
pub struct JournalError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
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

/// The journal of a host (of a user, without root).
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    run: String,
}

impl Journal {
    /// The journal in this state directory. Nothing is opened or made yet.
    #[must_use]
    pub fn at(state_dir: &Path) -> Self {
        let run = format!("{:x}-{:x}", clock::now().as_millisecond(), std::process::id());
        Self { path: state_dir.join(JOURNAL), run }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, doing: &'static str) -> impl FnOnce(io::Error) -> JournalError {
        let path = self.path.clone();
        move |source| JournalError { doing, path, source }
    }

    /// Writes one line and waits until it is on disk. Secrets are removed before.
    pub fn append(&self, body: Body, redactor: &Redactor) -> Result<Receipt, JournalError> {
        self.append_at(body, redactor, clock::now()).map_err(self.error("writing to"))
    }

    fn append_at(&self, body: Body, redactor: &Redactor, at: Timestamp) -> io::Result<Receipt> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        dir::ensure(dir)?;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags()).open(&self.path)?;
        // released when the file is closed
        flock(&file, FlockOperation::LockExclusive)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let last = chain::lines(&bytes).last();
        let seq = chain::lines(&bytes).filter_map(chain::parse).map(|e| e.seq).max().unwrap_or(0) + 1;
        let entry = Entry {
            seq,
            prev: last.map_or_else(|| chain::GENESIS.to_owned(), chain::digest),
            at,
            run: self.run.clone(),
            by: Who::of_process(),
            body,
        };
        let mut json = serde_json::to_value(&entry)?;
        redactor.scrub_json(&mut json);
        scrub_arguments(&mut json, redactor);
        // the hash must not be taken for a token
        json["prev"] = entry.prev.into();
        let mut line = Vec::new();
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            line.push(b'\n');
        }
        line.extend_from_slice(chain::seal(&json.to_string()).as_bytes());
        line.push(b'\n');
        let end = file.seek(SeekFrom::End(0))?;
        // where the filesystem cannot reserve, the write decides
        let _ = fallocate(&file, FallocateFlags::KEEP_SIZE, end, line.len() as u64 + RESERVE);
        if let Err(e) = file.write_all(&line) {
            // half a line is no use to anybody; should this fail too, the next append ends it
            let _ = file.set_len(end);
            return Err(e);
        }
        file.sync_all()?;
        if bytes.is_empty() {
            dir::sync(dir)?;
        }
        Ok(Receipt { seq })
    }

    /// The bytes of the journal; none when there is none.
    pub fn bytes(&self) -> Result<Vec<u8>, JournalError> {
        let read = || {
            let mut file = OpenOptions::new().read(true).custom_flags(flags()).open(&self.path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("not a file"));
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map(|_| bytes)
        };
        match read() {
            Ok(bytes) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(self.error("reading")(e)),
        }
    }

    /// All entries, oldest first; torn and foreign lines are left out ([`verify`] reports them).
    pub fn entries(&self) -> Result<Vec<Entry>, JournalError> {
        Ok(chain::lines(&self.bytes()?).filter_map(chain::parse).collect())
    }
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

/// Neither a link nor a pipe that somebody put there is the journal.
fn flags() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
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
mod tests;
