//! `opsctl respond` and `opsctl listen`.

mod callers;
mod diagnosis;
