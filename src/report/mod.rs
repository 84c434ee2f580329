//! What a report says beyond one run: what is new, what is still so, what is over, and where the numbers go.

mod chat;
mod course;
mod journal;
mod owner;
mod trend;

pub use chat::{Line, chat, footer, headline};
pub use course::{Compared, Period, compare};
pub use journal::add_journal;
pub use owner::of_owner;

#[cfg(test)]
pub(crate) use course::tests as fixtures;
