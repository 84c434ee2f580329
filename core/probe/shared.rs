//! Values that readers share within a run, by type.
//!
//! A reader stores its sessions and results here and not in a field of [`ProbeCx`](super::ProbeCx): the context imports no reader
//! that uses it.

use std::any::Any;
use std::sync::OnceLock;

/// One value of each type: a list, in which a new type is appended at its first use.
#[derive(Default)]
pub struct Shared(OnceLock<Box<Node>>);

struct Node {
    value: Box<dyn Any + Send + Sync>,
    rest: Shared,
}

impl Shared {
    /// Adds a value. It takes precedence over earlier values of its type.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(self, value: T) -> Self {
        Self(OnceLock::from(Box::new(Node { value: Box::new(value), rest: self })))
    }

    /// The value of this type; the default if none was added.
    #[must_use]
    pub fn get<T: Any + Default + Send + Sync>(&self) -> &T {
        let node = self.0.get_or_init(|| Box::new(Node { value: Box::new(T::default()), rest: Self::default() }));
        node.value.downcast_ref().unwrap_or_else(|| node.rest.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_value_precedes_the_default() {
        let shared = Shared::default().with(7_u8).with("text".to_owned());
        assert_eq!((*shared.get::<u8>(), shared.get::<String>().as_str()), (7, "text"));
        assert_eq!(*shared.get::<u64>(), 0);
    }

    #[test]
    fn value_is_created_once() {
        let shared = Shared::default();
        assert_eq!(*shared.get::<u8>(), 0);
        let first: *const Vec<String> = shared.get::<Vec<String>>();
        assert!(std::ptr::eq(first, shared.get::<Vec<String>>()));
    }
}
