//! cli
pub mod audit;
pub mod config;
