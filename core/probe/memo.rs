//! Reads that several checks share happen once per run, without an order between the checks.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::lag;

/// A value, and how late opsctl was in attempts of reading it that timed out: whoever gets the value is concerned.
type Cell<V> = Arc<OnceCell<(V, Option<Duration>)>>;

/// Values by key, each computed once; whoever asks while it is being computed waits for it.
#[derive(Debug)]
pub struct Memo<K, V> {
    cells: Mutex<HashMap<K, Cell<V>>>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { cells: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// With a value that is known already.
    pub fn holding(key: K, value: V) -> Self {
        Self { cells: Mutex::new(HashMap::from([(key, Arc::new(OnceCell::new_with(Some((value, None)))))])) }
    }

    /// The value for `key`, computed by `read` if nobody has asked yet.
    pub async fn get<F>(&self, key: K, read: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V>,
    {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            cells.entry(key).or_default().clone()
        };
        // hundreds wait for one: each would else hold the room of a whole read
        let (value, late) = cell.get_or_init(|| Box::pin(lag::watched(async { read().await }))).await.clone();
        if let Some(late) = late {
            lag::mark(late);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn second_reader_learns_that_the_first_was_late() {
        let memo = Memo::<(), u8>::default();
        let late = Duration::from_secs(1);
        let read = || async {
            lag::mark(late);
            7
        };
        assert_eq!(lag::watched(memo.get((), read)).await, (7, Some(late)));
        assert_eq!(lag::watched(memo.get((), || async { 8 })).await, (7, Some(late)));
    }
}
