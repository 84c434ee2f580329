//! cli
pub mod audit;
pub mod config;
pub mod fix;
pub mod undo;
