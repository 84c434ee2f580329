//! Reading the journal and checking its chain.

use opsctl_core::model::quantity;
use sha2::{Digest, Sha256};

use super::entry::Entry;

/// What the first line follows.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// SHA-256 of a line without its line end, in hex.
pub(super) fn digest(line: &[u8]) -> String {
    quantity::hex(&Sha256::digest(line))
}

/// The lines of a journal; the last may lack its line end.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|b| *b == b'\n').filter(move |_| !bytes.is_empty())
}

/// `,"sum":"` and the closing `"}` around the 64 digits that end every line.
const SUM: (&[u8], &[u8]) = (b",\"sum\":\"", b"\"}");

/// A line for this JSON object: it ends with the hash of everything before, so that also an edit of the last line shows.
pub(super) fn seal(object: &str) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open},\"sum\":\"{}\"}}", digest(open.as_bytes()))
}

fn sealed(line: &[u8]) -> bool {
    let Some(rest) = line.strip_suffix(SUM.1) else { return false };
    let Some((rest, sum)) = rest.split_last_chunk::<64>() else { return false };
    rest.strip_suffix(SUM.0).is_some_and(|open| digest(open).as_bytes() == sum)
}

pub(super) fn parse(line: &[u8]) -> Option<Entry> {
    serde_json::from_slice(line).ok()
}

/// What is wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Number of the line in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: Wrong,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Half a line, as a crash leaves it, and the chain goes on over it: not a sign of tampering.
    Torn,
    /// It is not what was written.
    Edited,
    /// It does not follow the line before it: lines were removed, added or exchanged here.
    Broken,
    /// The numbers do not follow each other.
    Number {
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
}

impl Wrong {
    /// Whether somebody or something other than a crash did this.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        *self != Self::Torn
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.line;
        match &self.what {
            Wrong::Torn => write!(f, "line {line}: torn by a crash; the chain goes on over it"),
            Wrong::Edited => write!(f, "line {line}: edited after it was written"),
            Wrong::Broken => write!(f, "line {line}: does not follow the line before it; lines were removed, added or exchanged"),
            Wrong::Number { expected, found } => write!(f, "line {line}: entry {found} where {expected} was expected"),
        }
    }
}

/// Checks a journal: the number of entries and what is wrong. What a chain cannot show: lines cut off at the end, and a
/// journal that was written anew from some line on with new hashes.
#[must_use]
pub fn verify(bytes: &[u8]) -> (usize, Vec<Fault>) {
    let lines: Vec<&[u8]> = lines(bytes).collect();
    let entries: Vec<Option<Entry>> = lines.iter().map(|l| parse(l)).collect();
    let mut faults = Vec::new();
    let mut seq = Some(0);
    let mut expected = GENESIS.to_owned();
    let mut before_edited = false;
    for (i, entry) in entries.iter().enumerate() {
        let line = i + 1;
        let hash = digest(lines[i]);
        let edited = match entry {
            Some(_) => !sealed(lines[i]),
            // half a line is confirmed by its successor, or is the end of the file
            None => match entries.get(i + 1) {
                Some(next) => next.as_ref().is_none_or(|n| n.prev != hash),
                None => bytes.ends_with(b"\n"),
            },
        };
        match entry {
            _ if edited => faults.push(Fault { line, what: Wrong::Edited }),
            None => faults.push(Fault { line, what: Wrong::Torn }),
            // an edited line before this one was reported already
            Some(entry) if entry.prev != expected && !before_edited => faults.push(Fault { line, what: Wrong::Broken }),
            Some(_) => {}
        }
        // how many numbers an edited line stood for cannot be known
        let next = seq.map(|s| s + 1);
        seq = match entry {
            _ if edited => None,
            Some(entry) => {
                if let Some(expected) = next.filter(|n| *n != entry.seq) {
                    faults.push(Fault { line, what: Wrong::Number { expected, found: entry.seq } });
                }
                Some(entry.seq)
            }
            None => seq,
        };
        expected = hash;
        before_edited = edited;
    }
    (entries.iter().flatten().count(), faults)
}
