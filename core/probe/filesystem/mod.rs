//! Filesystems: what is mounted, how full it is, what fills it.

mod mounts;
mod space;

pub use mounts::{mounts, parse_mountinfo};
pub use space::{FsUsage, Space, filesystem_of, space};
