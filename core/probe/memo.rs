//! Shared reads: each is done once per run, independent of the order of the checks.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::lag;

/// A value, and the delay of opsctl in attempts to read it that timed out, which concerns every caller.
type Cell<V> = Arc<OnceCell<(V, Option<Duration>)>>;

/// Values by key, each computed once; concurrent callers wait for the computation.
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
    /// A memo with a value that is already known.
    pub fn holding(key: K, value: V) -> Self {
        Self { cells: Mutex::new(HashMap::from([(key, Arc::new(OnceCell::new_with(Some((value, None)))))])) }
    }

    /// The value for `key`, computed by `read` on the first call.
    pub async fn get<F>(&self, key: K, read: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V>,
    {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            cells.entry(key).or_default().clone()
        };
        // boxed: otherwise each of hundreds of waiting callers would allocate the state of a whole read
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
    async fn delay_of_the_first_reader_is_passed_to_the_second() {
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
