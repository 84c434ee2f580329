//! The secrets seen in this run, and how they are found in text: hundreds of containers have thousands of them, and every string of all
//! evidence is looked through.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use aho_corasick::AhoCorasick;

use super::REDACTED;

/// Looking for one secret after the other may cost this many times the number of all secrets before an automaton is made of them: about
/// what making it costs.
const WORTH_IT: usize = 50;

/// Secrets, and what finds them.
#[derive(Debug, Default)]
pub(super) struct Learned {
    inner: RwLock<Inner>,
    /// Searches for one secret since the automaton was made.
    searched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    all: BTreeSet<String>,
    /// Names of objects: a secret within one of them stays, because the name has to be shown.
    names: BTreeSet<String>,
    /// Tells whether a text holds any but `fresh`; none as long as there are few.
    automaton: Option<AhoCorasick>,
    /// What the automaton does not know yet.
    fresh: Vec<String>,
}

impl Learned {
    /// Takes note of a name that is shown even if somebody used it as a password.
    pub(super) fn know_name(&self, name: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.names.insert(name.to_owned()) {
            inner.automaton = None;
            inner.fresh = inner.all.iter().cloned().collect();
        }
    }

    /// Takes note of one secret.
    pub(super) fn insert(&self, secret: &str) {
        if self.inner.read().unwrap_or_else(PoisonError::into_inner).all.contains(secret) {
            return;
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.all.insert(secret.to_owned()) {
            inner.fresh.push(secret.to_owned());
        }
    }

    /// `text` without them; none when there are none in it.
    pub(super) fn removed_from(&self, text: &str) -> Option<String> {
        let (found, worth_it) = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            let searched = self.searched.fetch_add(inner.fresh.len(), Ordering::Relaxed);
            (inner.removed_from(text), searched > inner.all.len().saturating_mul(WORTH_IT))
        };
        if worth_it {
            self.inner.write().unwrap_or_else(PoisonError::into_inner).make_automaton();
            self.searched.store(0, Ordering::Relaxed);
        }
        found
    }
}

impl Inner {
    /// Those that are to be removed: what is within a name has to be shown.
    fn secrets(&self) -> impl Iterator<Item = &String> {
        self.all.iter().filter(|s| !self.names.iter().any(|n| n.contains(s.as_str())))
    }

    fn removed_from(&self, text: &str) -> Option<String> {
        let known = self.automaton.as_ref().is_some_and(|a| a.is_match(text));
        if !known && !self.fresh.iter().any(|s| text.contains(s.as_str())) {
            return None;
        }
        // few strings hold any: for these one after the other, longest first, so that one inside a longer one does not leave the rest
        let mut present: Vec<&String> = self.secrets().filter(|s| text.contains(s.as_str())).collect();
        present.sort_by_key(|s| std::cmp::Reverse(s.len()));
        let removed = present.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED));
        (!present.is_empty()).then_some(removed)
    }

    fn make_automaton(&mut self) {
        // one that would be too large is not made, and each is looked for as before
        if let Ok(automaton) = AhoCorasick::new(self.secrets()) {
            (self.automaton, self.fresh) = (Some(automaton), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_found_as_few_are() {
        let learned = Learned::default();
        learned.know_name("shop_postgres");
        for i in 0..1000 {
            learned.insert(&format!("secret-{i:04}"));
            // asked in between, as health logs are while others are still read
            assert_eq!(learned.removed_from("nothing in it"), None);
        }
        learned.insert("postgres");
        assert!(learned.inner.read().unwrap_or_else(PoisonError::into_inner).automaton.is_some());
        for i in 0..1000 {
            assert_eq!(learned.removed_from(&format!("a secret-{i:04} b")).as_deref(), Some("a [redacted] b"));
        }
        assert_eq!(learned.removed_from("shop_postgres"), None, "a name stays");
        // of one within another nothing stays, whichever was learned first
        learned.insert("secret-0001-and-more");
        assert_eq!(learned.removed_from("secret-0001-and-more").as_deref(), Some(REDACTED));
        learned.inner.write().unwrap_or_else(PoisonError::into_inner).make_automaton();
        assert_eq!(learned.removed_from("secret-0001-and-more").as_deref(), Some(REDACTED));
        // a name that is known later is shown from then on
        learned.know_name("secret-0002");
        assert_eq!(learned.removed_from("secret-0002 secret-0003").as_deref(), Some("secret-0002 [redacted]"));
    }
}
