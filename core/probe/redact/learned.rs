//! Learned secrets of a run, and their search in text: hundreds of containers have thousands of them, and every string of all
//! evidence is searched.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::spans::Spans;
use super::{MIN_LEARNED_BYTES, REDACTED};

/// The cost of searching the patterns one by one, in multiples of the number of all patterns, after which an automaton is built
/// from them: about the cost of building it.
const AUTOMATON_THRESHOLD: usize = 50;

/// A longer secret is split into pieces, so that a part of it is removed as well and no pattern is long.
const PIECE_BYTES: usize = 48;

/// Limit of the bytes of all secrets. A host with a thousand containers has a tenth of it.
const MAX_BYTES: usize = 4 << 20;

/// Limit of the bytes of secrets that are also searched in base64 and hexadecimal form.
const MAX_ENCODED_BYTES: usize = 1 << 20;

/// Characters of an encoded secret that identify it; the rest of the encoded text is removed with it.
const ENCODED_CHARS: usize = 16;

/// Minimum length of a text that may have been cut at its end.
const MIN_CUT_BYTES: usize = 80;

/// Encoding of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Verbatim.
    Plain,
    /// In base64, of either alphabet.
    Base64,
    /// In hexadecimal digits.
    Hex,
}

/// Learned secrets, and their automaton.
#[derive(Debug, Default)]
pub(super) struct Learned {
    inner: RwLock<Inner>,
    /// Searches with single patterns since the automaton was built.
    searched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    /// Complete secrets, as they were learned.
    all: HashSet<String>,
    /// Patterns to search for.
    patterns: HashMap<Vec<u8>, Form>,
    /// The plain patterns in order: for a text that ends within one of them.
    pieces: BTreeSet<Vec<u8>>,
    /// Prefixes of all patterns.
    beginnings: Beginnings,
    /// Secrets that are too short or too common to be removed everywhere.
    short: HashSet<Vec<u8>>,
    /// Names of objects: a secret within one of them stays, because the name has to be shown.
    names: BTreeSet<String>,
    /// Finds the longest pattern at a position, of all but `fresh`; `None` as long as there are few.
    automaton: Option<(AhoCorasick, Vec<Form>)>,
    /// Finds the names; `None` after a new name.
    name_finder: Option<AhoCorasick>,
    /// Patterns that are not in the automaton yet.
    fresh: Vec<(Vec<u8>, Form)>,
    /// Sum of the lengths of `all`.
    bytes: usize,
    /// Whether a secret has a space, which an HTML form encodes as `+`.
    has_space: bool,
}

/// Length of the prefix of a pattern that is searched first.
const WINDOW: usize = MIN_LEARNED_BYTES;

/// A multiplier that distributes the bits of a window over those of its product.
const HASH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Two bits for the prefix of each pattern, which exclude nearly every position of every text: a search with an automaton of
/// thousands of patterns takes several times as long.
#[derive(Debug, Default)]
struct Beginnings {
    /// Empty until the first pattern.
    bits: Vec<u64>,
}

impl Beginnings {
    /// 256 KiB: with the patterns of thousands of secrets, one position in ten thousand is a false match.
    const WORDS: usize = 1 << 15;

    /// Word indexes and masks of the two bits.
    const fn bits_of(window: u64) -> [(usize, u64); 2] {
        let hash = window.wrapping_mul(HASH);
        [((hash >> 49) as usize, 1 << ((hash >> 43) & 63)), (((hash >> 28) & 0x7fff) as usize, 1 << ((hash >> 22) & 63))]
    }

    fn window(text: &[u8]) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..WINDOW].copy_from_slice(text.first_chunk::<WINDOW>()?);
        Some(u64::from_le_bytes(bytes))
    }

    fn insert(&mut self, pattern: &[u8]) {
        if let Some(window) = Self::window(pattern) {
            self.bits.resize(Self::WORDS, 0);
            for (word, bit) in Self::bits_of(window) {
                self.bits[word] |= bit;
            }
        }
    }

    fn may_hold(&self, window: u64) -> bool {
        if self.bits.is_empty() {
            return false;
        }
        let [(first, bit), (second, other)] = Self::bits_of(window);
        self.bits[first] & bit != 0 && self.bits[second] & other != 0
    }

    /// First position from `at` on where a pattern may begin.
    fn next(&self, text: &[u8], at: usize) -> Option<usize> {
        let mut window = Self::window(text.get(at..)?)?;
        let bits: &[u64; Self::WORDS] = self.bits.as_slice().try_into().ok()?;
        let mut here = at;
        for next in &text[at + WINDOW..] {
            let [(word, bit), (other_word, other)] = Self::bits_of(window);
            if bits[word] & bit != 0 && bits[other_word] & other != 0 {
                return Some(here);
            }
            window = (window >> 8) | (u64::from(*next) << 40);
            here += 1;
        }
        self.may_hold(window).then_some(here)
    }
}

impl Learned {
    /// Number of learned secrets and names.
    pub(super) fn generation(&self) -> u64 {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        (inner.all.len() + inner.short.len() + inner.names.len()) as u64
    }

    /// Registers a name that is shown even if it is used as a password.
    pub(super) fn register_name(&self, name: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.names.insert(name.to_owned()) {
            inner.name_finder = None;
        }
    }

    /// Registers a secret.
    pub(super) fn insert(&self, secret: &str) {
        if self.inner.read().unwrap_or_else(PoisonError::into_inner).all.contains(secret) {
            return;
        }
        self.inner.write().unwrap_or_else(PoisonError::into_inner).insert(secret);
    }

    /// Registers a secret that is removed only in the position of a secret.
    pub(super) fn insert_short(&self, secret: &str) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).short.insert(secret.as_bytes().to_vec());
    }

    /// Whether the text is such a secret.
    pub(super) fn is_short(&self, word: &[u8]) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).short.contains(word)
    }

    /// Whether a secret has a space in it.
    pub(super) fn has_space(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).has_space
    }

    /// Positions of the secrets in `text`, in any form.
    pub(super) fn find(&self, text: &[u8]) -> Spans {
        let (found, worth_it) = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            let (found, candidates) = inner.find(text);
            let searched = self.searched.fetch_add(candidates.saturating_mul(inner.fresh.len()), Ordering::Relaxed);
            (found, searched > inner.patterns.len().saturating_mul(AUTOMATON_THRESHOLD))
        };
        if worth_it {
            self.inner.write().unwrap_or_else(PoisonError::into_inner).build();
            self.searched.store(0, Ordering::Relaxed);
        }
        found
    }
}

impl Inner {
    fn insert(&mut self, secret: &str) {
        if self.bytes + secret.len() > MAX_BYTES || !self.all.insert(secret.to_owned()) {
            return;
        }
        self.bytes += secret.len();
        self.has_space |= secret.contains(' ');
        let encoded = self.bytes <= MAX_ENCODED_BYTES;
        // log messages contain the lines of a key one by one
        for line in secret.lines().map(str::trim).filter(|l| l.len() >= MIN_LEARNED_BYTES && !l.starts_with("-----")) {
            for piece in pieces(line.as_bytes()) {
                self.add(piece.to_vec(), Form::Plain);
                self.pieces.insert(piece.to_vec());
                if encoded {
                    for form in base64_forms(piece) {
                        self.add(form, Form::Base64);
                    }
                    for form in hex_forms(piece) {
                        self.add(form, Form::Hex);
                    }
                }
            }
        }
    }

    fn add(&mut self, pattern: Vec<u8>, form: Form) {
        if !self.patterns.contains_key(&pattern) {
            self.beginnings.insert(&pattern);
            self.fresh.push((pattern.clone(), form));
            self.patterns.insert(pattern, form);
        }
    }

    /// Positions of the patterns, and the number of candidate positions.
    fn find(&self, text: &[u8]) -> (Spans, usize) {
        let (mut found, mut candidates) = (Vec::new(), 0);
        let mut from = 0;
        while let Some(at) = self.beginnings.next(text, from) {
            from = at + 1;
            candidates += 1;
            let longest = self.automaton.as_ref().and_then(|(automaton, forms)| {
                let hit = automaton.find(Input::new(text).range(at..).anchored(Anchored::Yes))?;
                Some((hit.len(), forms[hit.pattern().as_usize()]))
            });
            let fresh =
                self.fresh.iter().filter(|(pattern, _)| text[at..].starts_with(pattern)).map(|(p, form)| (p.len(), *form));
            found.extend(fresh.chain(longest).map(|(length, form)| encoded_text(text, at..at + length, form)));
        }
        found.extend(self.cut(text));
        let mut spans = Spans::default();
        if !found.is_empty() {
            let names = self.names_in(text);
            let shown = |span: &Range<usize>| names.iter().any(|n| n.start <= span.start && span.end <= n.end);
            found.into_iter().filter(|span| !shown(span)).for_each(|span| spans.push(span));
        }
        (spans, candidates)
    }

    /// The beginning of a secret at the end of a text that was cut there.
    fn cut(&self, text: &[u8]) -> Option<Range<usize>> {
        let dots = text.strip_suffix("…".as_bytes()).or_else(|| text.strip_suffix(b"..."));
        if self.pieces.is_empty() || (dots.is_none() && text.len() < MIN_CUT_BYTES) {
            return None;
        }
        let text = dots.unwrap_or(text);
        let from = text.len().saturating_sub(2 * PIECE_BYTES);
        let begins_word = |at: &usize| *at == 0 || !text[at - 1].is_ascii_alphanumeric();
        let positions = std::iter::successors(self.beginnings.next(text, from), |at| self.beginnings.next(text, at + 1));
        positions
            .filter(begins_word)
            .find(|at| self.pieces.range(text[*at..].to_vec()..).next().is_some_and(|piece| piece.starts_with(&text[*at..])))
            .map(|at| at..text.len())
    }

    /// Positions of names that are always shown, and of replacements of earlier runs.
    fn names_in(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = memchr::memmem::find_iter(text, REDACTED).map(|at| at..at + REDACTED.len()).collect();
        match &self.name_finder {
            Some(finder) => found.extend(finder.find_overlapping_iter(text).map(|hit| hit.start()..hit.end())),
            None => {
                for name in &self.names {
                    found.extend(memchr::memmem::find_iter(text, name).map(|at| at..at + name.len()));
                }
            }
        }
        found
    }

    fn build(&mut self) {
        let builder = || AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).clone();
        let patterns: Vec<(&[u8], Form)> = self.patterns.iter().map(|(pattern, form)| (pattern.as_slice(), *form)).collect();
        let longest = builder().match_kind(MatchKind::LeftmostLongest).start_kind(StartKind::Anchored).clone();
        // an automaton that would be too large is not built, and the patterns are searched one by one as before
        if let Ok(automaton) = longest.build(patterns.iter().map(|(pattern, _)| *pattern)) {
            self.automaton = Some((automaton, patterns.iter().map(|(_, form)| *form).collect()));
            self.fresh.clear();
        }
        if self.name_finder.is_none() {
            let long = self.names.iter().filter(|n| n.len() >= MIN_LEARNED_BYTES);
            self.name_finder = builder().build(long).ok();
        }
    }
}

/// All of the encoded text around a match that may contain a part of the secret.
fn encoded_text(text: &[u8], hit: Range<usize>, form: Form) -> Range<usize> {
    let forward = |of: fn(u8) -> bool| hit.end + text[hit.end..].iter().take_while(|b| of(**b)).count();
    match form {
        Form::Plain => hit,
        Form::Hex => hit.start..forward(|b| b.is_ascii_hexdigit()),
        Form::Base64 => {
            // the preceding character shares its bits with the first one
            let before = hit.start > 0 && is_base64(text[hit.start - 1]);
            let end = forward(is_base64);
            let padding = text[end..].iter().take(2).take_while(|b| **b == b'=').count();
            hit.start - usize::from(before)..end + padding
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// A secret in pieces of [`PIECE_BYTES`], the last with the rest.
fn pieces(secret: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = secret;
    while rest.len() >= 2 * PIECE_BYTES {
        let (piece, after) = rest.split_at(PIECE_BYTES);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// The base64 characters that depend on this secret only, at each of its three possible offsets in a longer text, in both
/// alphabets.
fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for lead in 0..3_usize {
        let mut bytes = vec![0; lead];
        bytes.extend_from_slice(&secret[..secret.len().min(ENCODED_CHARS)]);
        let encoded = STANDARD_NO_PAD.encode(&bytes);
        let (from, to) = ((lead * 8).div_ceil(6), bytes.len() * 8 / 6);
        let sure = &encoded.as_bytes()[from..to.min(from + ENCODED_CHARS)];
        let url_safe: Vec<u8> = sure
            .iter()
            .map(|b| match b {
                b'+' => b'-',
                b'/' => b'_',
                b => *b,
            })
            .collect();
        if url_safe != sure {
            forms.push(url_safe);
        }
        forms.push(sure.to_vec());
    }
    forms
}

/// The first digits of a secret in hexadecimal form, in both cases.
fn hex_forms(secret: &[u8]) -> [Vec<u8>; 2] {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    let digits: String = secret.iter().take(ENCODED_CHARS / 2).flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect();
    [digits.to_ascii_uppercase().into_bytes(), digits.into_bytes()]
}

#[cfg(test)]
mod tests {
    use super::super::spans::replaced;
    use super::*;

    fn removed(learned: &Learned, text: &str) -> Option<String> {
        let spans = learned.find(text.as_bytes());
        (!spans.is_empty()).then(|| replaced(text, &spans.merged(text)))
    }

    #[test]
    fn many_secrets_are_found_like_few() {
        let learned = Learned::default();
        learned.register_name("shop_postgres");
        for i in 0..1000 {
            learned.insert(&format!("secret-{i:04}"));
            // searched in between, as health logs are while others are still read
            assert_eq!(removed(&learned, "nothing in it"), None);
        }
        learned.insert("postgres");
        learned.inner.write().unwrap_or_else(PoisonError::into_inner).build();
        for i in 0..1000 {
            assert_eq!(removed(&learned, &format!("a secret-{i:04} b")).as_deref(), Some("a [redacted] b"));
        }
        assert_eq!(removed(&learned, "shop_postgres"), None, "a name stays");
        // a secret within another one is removed as well, in any order of learning
        learned.insert("secret-0001-and-more");
        assert_eq!(removed(&learned, "secret-0001-and-more").as_deref(), Some(REDACTED));
        learned.inner.write().unwrap_or_else(PoisonError::into_inner).build();
        assert_eq!(removed(&learned, "secret-0001-and-more").as_deref(), Some(REDACTED));
        // a name that is registered later is shown from then on
        learned.register_name("secret-0002");
        assert_eq!(removed(&learned, "secret-0002 secret-0003").as_deref(), Some("secret-0002 [redacted]"));
    }

    #[test]
    fn automaton_is_built_after_enough_searches() {
        let learned = Learned::default();
        (0..20).for_each(|i| learned.insert(&format!("secret-{i:04}")));
        for _ in 0..AUTOMATON_THRESHOLD + 2 {
            // begins like the secrets do: each of them is compared at such positions only
            assert_eq!(removed(&learned, "secret-x"), None);
        }
        assert!(learned.inner.read().unwrap_or_else(PoisonError::into_inner).automaton.is_some());
    }

    #[test]
    fn secret_within_a_name_stays_only_in_the_name() {
        let learned = Learned::default();
        learned.register_name("canary-proxy");
        learned.insert("canary");
        assert_eq!(removed(&learned, "canary-proxy sent canary").as_deref(), Some("canary-proxy sent [redacted]"));
    }

    #[test]
    fn overlapping_secrets_leave_nothing() {
        let learned = Learned::default();
        learned.insert("abcdef-1");
        learned.insert("ef-1-ghij");
        assert_eq!(removed(&learned, "x abcdef-1-ghij y").as_deref(), Some("x [redacted] y"));
        learned.inner.write().unwrap_or_else(PoisonError::into_inner).build();
        assert_eq!(removed(&learned, "x abcdef-1-ghij y").as_deref(), Some("x [redacted] y"));
    }

    #[test]
    fn single_lines_of_a_key_are_found() {
        let learned = Learned::default();
        learned.insert("-----BEGIN PRIVATE KEY-----\nMIIcanary0123\nzz+yy/xx0123==\n-----END PRIVATE KEY-----");
        assert_eq!(removed(&learned, "line zz+yy/xx0123== of it").as_deref(), Some("line [redacted] of it"));
        assert_eq!(removed(&learned, "-----BEGIN PRIVATE KEY-----"), None);
    }

    #[test]
    fn beginning_of_a_secret_at_a_cut_is_removed() {
        let learned = Learned::default();
        learned.insert("canary-0123456789");
        assert_eq!(removed(&learned, "it is canary-01…").as_deref(), Some("it is [redacted]…"));
        assert_eq!(removed(&learned, "it is canary-01"), None, "a short text was not cut");
        let long = format!("{} canary-0123", "x".repeat(100));
        assert!(removed(&learned, &long).is_some_and(|clean| clean.ends_with("x [redacted]")));
    }

    #[test]
    fn parts_of_a_long_secret_are_removed() {
        let learned = Learned::default();
        let secret: String = (0..200).map(|i| char::from(b'a' + u8::try_from(i * 7 % 26).unwrap_or(0))).collect();
        learned.insert(&secret);
        assert_eq!(removed(&learned, &format!("<{secret}>")).as_deref(), Some("<[redacted]>"));
        let half = removed(&learned, &format!("<{}>", &secret[..100])).unwrap_or_default();
        assert!(half.starts_with("<[redacted]") && half.len() < 20, "{half}");
    }

    #[test]
    fn stored_bytes_are_bounded() {
        let learned = Learned::default();
        let long = "x".repeat(1 << 20);
        (0..8).for_each(|i| learned.insert(&format!("{i}{long}")));
        assert!(learned.inner.read().unwrap_or_else(PoisonError::into_inner).bytes <= MAX_BYTES);
    }
}
