//! Processes: their table, users, files, and the container or unit they run in.

pub mod files;
pub mod home;
pub mod owner;
pub mod peer_groups;
pub mod process;
pub mod table;
