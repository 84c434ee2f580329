//! What a report says beyond one run: what is new, what is still so, what is over, and where the numbers go.

mod chat;
mod course;
mod owner;
mod trend;

pub use chat::{Line, chat, headline};
pub use course::{Compared, Period, compare};
pub use owner::of_owner;

#[cfg(test)]
pub(crate) use course::tests as fixtures;
