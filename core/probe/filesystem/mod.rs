//! Filesystems: what is mounted, how full it is, what fills it.

mod fstab;
mod io;
mod mounts;
mod open_files;
mod space;
mod walk;

pub use fstab::{FstabEntry, fstab, mountpoints};
pub use io::{DiskCounters, disks};
pub use mounts::{mounts, parse_mountinfo};
pub use open_files::{DeletedFile, DescriptorUser, deleted_but_open, descriptors};
pub use space::{FsUsage, Space, filesystem_of, space};
pub use walk::{Folder, Usage, usage};
