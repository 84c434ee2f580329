//! Reading the journal and checking its chain.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;

use opsctl_core::model::quantity;
use sha2::{Digest, Sha256};

use super::entry::Entry;
use super::key::PublicKey;
use crate::state::head::Head;

/// Value of `prev` in the first line.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// SHA-256 of a line without its newline, in hex.
pub(super) fn digest(line: &[u8]) -> String {
    quantity::hex(&Sha256::digest(line))
}

/// The lines of a journal; the last may lack its newline.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|b| *b == b'\n').filter(move |_| !bytes.is_empty())
}

/// `,"sum":"` and the closing `"}` around the 64 digits that end every line.
const SUM: (&[u8], &[u8]) = (b",\"sum\":\"", b"\"}");

/// The beginning of a signature field, which is the last one before the sum: 16 digits of the key's id, a colon, 128 digits.
const SIGNATURE: &[u8] = b",\"sig\":\"";

/// A line for this JSON object: it ends with the hash of the preceding bytes, so that an edit of the last line is detected, too. `sign`
/// returns the signature of the object, as [`SigningKey::sign`](super::key::SigningKey::sign) writes it.
pub(super) fn seal(object: &str, sign: Option<impl FnOnce(&[u8]) -> String>) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    let signature = sign.map(|sign| format!(",\"sig\":\"{}\"", sign(&signed_text(open.as_bytes())))).unwrap_or_default();
    let open = format!("{open}{signature}");
    format!("{open},\"sum\":\"{}\"}}", digest(open.as_bytes()))
}

/// The bytes of an entry that its signature covers. The prefix keeps a signature of an entry from being used for anything else.
fn signed_text(open: &[u8]) -> Vec<u8> {
    [b"opsctl journal entry 1\n", open].concat()
}

/// The line without its sum, and the sum.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8; 64])> {
    let (rest, sum) = line.strip_suffix(SUM.1)?.split_last_chunk::<64>()?;
    Some((rest.strip_suffix(SUM.0)?, sum))
}

fn sealed(line: &[u8]) -> bool {
    parts(line).is_some_and(|(open, sum)| digest(open).as_bytes() == sum)
}

/// A signature in a line.
struct Signed<'a> {
    /// The object without signature, sum and closing brace.
    open: &'a [u8],
    /// Id of the key and signature.
    mark: &'a str,
}

/// The signature of a line, if it is signed.
fn signed(line: &[u8]) -> Option<Signed<'_>> {
    let (rest, mark) = parts(line)?.0.strip_suffix(b"\"")?.split_last_chunk::<{ 16 + 1 + 128 }>()?;
    Some(Signed { open: rest.strip_suffix(SIGNATURE)?, mark: std::str::from_utf8(mark).ok()? })
}

pub(super) fn parse(line: &[u8]) -> Option<Entry> {
    serde_json::from_slice(line).ok()
}

impl Head {
    /// The head of a journal without an entry.
    #[must_use]
    pub fn empty() -> Self {
        Self { entries: 0, hash: GENESIS.to_owned() }
    }

    /// The head of these bytes of a journal.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let entries = lines(bytes).filter_map(|line| Some(Self { entries: parse(line)?.seq, hash: digest(line) }));
        entries.last().unwrap_or_else(Self::empty)
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.entries, self.hash)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not COUNT:HASH, a number and 64 hex digits, as reports and mails print it");
        let (entries, hash) = text.split_once(':').ok_or_else(wrong)?;
        let entries = entries.parse().map_err(|_| wrong())?;
        let digits = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if digits { Ok(Self { entries, hash: hash.to_ascii_lowercase() }) } else { Err(wrong()) }
    }
}

/// Where a known head is in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// The journal ends with it.
    Last,
    /// The journal contains it, and so many entries follow.
    Followed(usize),
    /// The journal has no entry of this number; the number of its last entry, 0 without any.
    Absent(u64),
    /// The entry of this number has another hash.
    Differs(String),
}

/// Finds a head in a journal. The lines before and after it are checked by [`verify`].
#[must_use]
pub fn find(bytes: &[u8], head: &Head) -> Position {
    let entries: Vec<(u64, &[u8])> = lines(bytes).filter_map(|line| Some((parse(line)?.seq, line))).collect();
    let after = |n: usize| if n == 0 { Position::Last } else { Position::Followed(n) };
    if head.entries == 0 {
        return if head.hash == GENESIS { after(entries.len()) } else { Position::Differs(GENESIS.to_owned()) };
    }
    let of_number = || entries.iter().enumerate().filter(|(_, (seq, _))| *seq == head.entries);
    match (of_number().find(|(_, (_, line))| digest(line) == head.hash), of_number().next()) {
        (Some((i, _)), _) => after(entries.len() - i - 1),
        (None, Some((_, (_, line)))) => Position::Differs(digest(line)),
        (None, None) => Position::Absent(entries.last().map_or(0, |(seq, _)| *seq)),
    }
}

/// A fault of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Number of the line in the file, from 1.
    pub line: usize,
    /// Kind of fault.
    pub kind: FaultKind,
}

/// Faults of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// An incomplete line after a crash, and the chain continues: not a sign of tampering.
    Torn,
    /// Its hash does not match its content.
    Edited,
    /// Its number is right, but it does not contain the hash of the previous line.
    Broken,
    /// Entries before it were removed.
    Missing {
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: u64,
    },
    /// Its number is out of order: lines were exchanged or repeated.
    Misplaced {
        /// The expected number.
        expected: u64,
        /// Its number.
        found: u64,
    },
    /// The entry has no signature, and an entry before it has one.
    Unsigned,
    /// Its signature was not made with this key.
    Forged {
        /// Id of the key.
        key: String,
    },
}

impl FaultKind {
    /// Whether a crash cannot have caused this.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        *self != Self::Torn
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            FaultKind::Torn => write!(f, "torn by a crash; the chain continues"),
            FaultKind::Edited => write!(f, "edited after it was written"),
            FaultKind::Broken => write!(f, "does not follow the line before it; a line was removed, added or rewritten"),
            FaultKind::Missing { first, last } if first == last => {
                write!(f, "entry {first}, which belongs before it, was removed")
            }
            FaultKind::Missing { first, last } => write!(f, "entries {first} to {last}, which belong before it, were removed"),
            FaultKind::Misplaced { expected, found } => {
                write!(f, "entry {found} where {expected} belongs; lines were exchanged or repeated")
            }
            FaultKind::Unsigned => write!(f, "not signed, although an entry before it is"),
            FaultKind::Forged { key } => write!(f, "its signature was not made with key {key}"),
        }
    }
}

/// Checks a journal; returns the number of entries and the faults. The chain alone does not detect lines that were cut off at the end, nor a
/// journal that was rewritten from some line on with new hashes: a head that is kept elsewhere does ([`find`]).
#[must_use]
pub fn verify(bytes: &[u8]) -> (usize, Vec<Fault>) {
    let lines: Vec<&[u8]> = lines(bytes).collect();
    let entries: Vec<Option<Entry>> = lines.iter().map(|l| parse(l)).collect();
    let numbers: HashSet<u64> = entries.iter().flatten().map(|e| e.seq).collect();
    let mut faults = Vec::new();
    let mut seq = Some(0);
    let mut expected = GENESIS.to_owned();
    let mut before_edited = false;
    for (i, entry) in entries.iter().enumerate() {
        let line = i + 1;
        let hash = digest(lines[i]);
        let edited = match entry {
            Some(_) => !sealed(lines[i]),
            // an incomplete line is confirmed by its successor, or is the end of the file
            None => match entries.get(i + 1) {
                Some(next) => next.as_ref().is_none_or(|n| n.prev != hash),
                None => bytes.ends_with(b"\n"),
            },
        };
        // the number of entries that an edited line replaces is unknown
        let next = seq.map(|s: u64| s.saturating_add(1));
        seq = match entry {
            _ if edited => {
                faults.push(Fault { line, kind: FaultKind::Edited });
                None
            }
            None => {
                faults.push(Fault { line, kind: FaultKind::Torn });
                seq
            }
            Some(entry) => {
                let kind = match next.filter(|n| *n != entry.seq) {
                    Some(n) => Some(misnumbered(n, entry.seq, &numbers)),
                    // an edited line before this one was reported already
                    None => (entry.prev != expected && !before_edited).then_some(FaultKind::Broken),
                };
                faults.extend(kind.map(|kind| Fault { line, kind }));
                Some(entry.seq)
            }
        };
        expected = hash;
        before_edited = edited;
    }
    (entries.iter().flatten().count(), faults)
}

/// The fault of entry `found` at the position of `expected`.
fn misnumbered(expected: u64, found: u64, numbers: &HashSet<u64>) -> FaultKind {
    let elsewhere = numbers.iter().any(|n| (expected..found).contains(n));
    if found > expected && !elsewhere {
        FaultKind::Missing { first: expected, last: found - 1 }
    } else {
        FaultKind::Misplaced { expected, found }
    }
}

/// The signatures of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// Entries without a signature before the first that has one. The signature of the next covers them, through its hash of the line before.
    pub unsigned: usize,
    /// Entries that are signed with one of the keys given.
    pub good: usize,
    /// Number of entries by the id of their key, where the key was not given.
    pub unknown: BTreeMap<String, usize>,
    /// Forged signatures, and unsigned entries after signed ones.
    pub faults: Vec<Fault>,
}

/// Verifies the signatures of all entries.
#[must_use]
pub fn signatures(bytes: &[u8], keys: &[PublicKey]) -> Signatures {
    let mut all = Signatures::default();
    let mut begun = false;
    for (i, line) in lines(bytes).enumerate().filter(|(_, line)| parse(line).is_some()) {
        let mut fault = |kind| all.faults.push(Fault { line: i + 1, kind });
        let Some(signed) = signed(line) else {
            if begun {
                fault(FaultKind::Unsigned);
            } else {
                all.unsigned += 1;
            }
            continue;
        };
        begun = true;
        let (id, signature) = signed.mark.split_once(':').unwrap_or_default();
        match keys.iter().find(|key| key.id() == id) {
            Some(key) if key.verifies(&signed_text(signed.open), signature) => all.good += 1,
            Some(_) => fault(FaultKind::Forged { key: id.to_owned() }),
            None => *all.unknown.entry(id.to_owned()).or_default() += 1,
        }
    }
    all
}
