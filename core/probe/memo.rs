//! Reads that several checks share happen once per run, without an order between the checks.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Values by key, each computed once; whoever asks while it is being computed waits for it.
#[derive(Debug)]
pub struct Memo<K, V> {
    cells: Mutex<HashMap<K, Arc<OnceCell<V>>>>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { cells: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// With a value that is known already.
    pub fn holding(key: K, value: V) -> Self {
        Self { cells: Mutex::new(HashMap::from([(key, Arc::new(OnceCell::new_with(Some(value))))])) }
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
        cell.get_or_init(|| Box::pin(read())).await.clone()
    }
}
