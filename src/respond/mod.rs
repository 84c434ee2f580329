//! An alert came in: which runbooks answer it, what they find, and what to tell whoever is awake.

mod answer;
mod payload;
mod route;
mod text;

pub use answer::{Alerted, Answer, Applied, Likeness, Response, respond};
pub use payload::{Alert, PayloadError, parse};
pub use route::{Route, route};
pub use text::{markdown, message, table};
