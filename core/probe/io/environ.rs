//! The environment of this process, read in one place.

/// The value of an environment variable; `None` if it is not set or not UTF-8.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
