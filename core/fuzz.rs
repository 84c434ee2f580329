//! Fuzz targets of all parsers. One definition serves the ordinary tests, which run the corpus and mutations of it, and a real
//! fuzzer (`tests/fuzz/run`).
//!
//! A target does not panic, ends quickly, and keeps the other properties that it asserts. Inputs that once failed stay in its
//! corpus.

#![allow(clippy::disallowed_methods, reason = "the corpus is read by tests and fuzzers only")]

use std::path::Path;

/// One parser and its property.
pub struct Target {
    /// Directory of its corpus below `tests/fuzz/corpus`.
    pub name: &'static str,
    /// The function that runs one input.
    pub run: Run,
}

/// Input type of a parser.
#[derive(Clone, Copy)]
pub enum Run {
    /// Arbitrary bytes.
    Bytes(fn(&[u8])),
    /// Text; invalid UTF-8 is replaced.
    Text(fn(&str)),
}

impl Target {
    /// A target with text input.
    #[must_use]
    pub const fn text(name: &'static str, run: fn(&str)) -> Self {
        Self { name, run: Run::Text(run) }
    }

    /// A target with bytes as input.
    #[must_use]
    pub const fn bytes(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run: Run::Bytes(run) }
    }

    /// Runs one input.
    pub fn once(&self, input: &[u8]) {
        match self.run {
            Run::Bytes(run) => run(input),
            Run::Text(run) => run(&String::from_utf8_lossy(input)),
        }
    }

    /// Runs every file of the corpus and `mutations` mutations of each. The mutations are the same in every run.
    ///
    /// # Panics
    ///
    /// When the parser panics; the message contains the input. Also when the corpus is empty.
    pub fn briefly(&self, corpus: &Path, mutations: usize) {
        let directory = corpus.join(self.name);
        let mut seeds: Vec<Vec<u8>> =
            std::fs::read_dir(&directory).into_iter().flatten().flatten().filter_map(|e| std::fs::read(e.path()).ok()).collect();
        assert!(!seeds.is_empty(), "{} has no corpus in {}", self.name, directory.display());
        // read_dir() returns entries in an order that depends on the filesystem
        seeds.sort();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in &seeds {
            self.assert_no_panic(seed);
            for _ in 0..mutations {
                self.assert_no_panic(&random.mutated(seed, &seeds));
            }
        }
    }

    fn assert_no_panic(&self, input: &[u8]) {
        let ended = std::panic::catch_unwind(|| self.once(input));
        assert!(ended.is_ok(), "{} panics on \"{}\"", self.name, input.escape_ascii());
    }
}

/// xorshift64*; sufficient for mutations.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % n.max(1)
    }

    /// Truncates, duplicates, splices and modifies parts of the seed, and inserts [`BOUNDARY_TOKENS`].
    fn mutated(&mut self, seed: &[u8], seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(6) {
                0 => input.truncate(at),
                1 => drop(input.drain(at.min(input.len())..input.len().min(at + self.below(16)))),
                2 => {
                    let word = BOUNDARY_TOKENS[self.below(BOUNDARY_TOKENS.len())];
                    input.splice(at..at, word.iter().copied());
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                4 => {
                    let part = input[at..input.len().min(at + 40)].to_vec();
                    input.splice(at..at, part);
                }
                _ if at < input.len() => input[at] ^= 1 << self.below(8),
                _ => input.push(0),
            }
            input.truncate(MAX_INPUT_BYTES);
        }
        input
    }
}

/// Size limit of an input. Longer inputs take more time and find no more faults.
const MAX_INPUT_BYTES: usize = 16 << 10;

/// Tokens at which parsers tend to fail.
const BOUNDARY_TOKENS: &[&[u8]] = &[
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b":",
    b"=",
    b",",
    b"/",
    b"\\",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b"$",
    b"#",
    b"%",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e400",
    b"NaN",
    b"inf",
    b"0x",
    b"65536",
    b"99999999999999999999",
    b"\xff\xfe",
    b"\xc3",
    "ß".as_bytes(),
    "\u{2028}".as_bytes(),
    "🦀".as_bytes(),
    b"\x1b[2J",
    b"null",
    b"::",
    b"[::1]:80",
    b"0000-00-00T00:00:00Z",
    b"9999-12-31T23:59:60Z",
    b"-9999-01-01T00:00:00Z",
    b"://",
    b"@",
    b"..",
];

/// All fuzz targets of this crate.
#[must_use]
pub fn targets() -> Vec<&'static Target> {
    crate::probe::fuzz::targets()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_and_mutations_do_not_panic() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
        for target in targets() {
            target.briefly(&corpus, 200);
        }
    }
}
