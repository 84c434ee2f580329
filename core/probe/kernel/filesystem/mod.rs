//! Filesystems: mounts, usage, large directories and open files.

mod fstab;
#[cfg(any(test, feature = "fuzz"))]
pub(in crate::probe) mod fuzz;
mod io;
mod mounts;
mod open_files;
mod space;
mod tmpfs;
mod walk;

pub use fstab::{FstabEntry, fstab};
pub use io::{DiskCounters, disks};
pub use mounts::{mounts, parse_mountinfo};
pub use open_files::{DeletedFile, DescriptorUser, Writer, deleted_but_open, descriptors, writers};
pub use space::{Filesystems, FsUsage, Space, is_not_empty, real_path, space};
pub use tmpfs::{Tmpfs, tmpfs_of};
pub use walk::{DirectoryUsage, FileUsage, Usage, usage, usage_with_growth};
