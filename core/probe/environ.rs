//! The process's own environment, read in one place.

/// The value of an environment variable; none when it is not set or not text.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
