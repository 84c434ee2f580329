//! Fuzz targets of mount tables, fstab and disk statistics.

use crate::fuzz::Target;
use crate::probe::kernel::filesystem::{fstab, io, mounts, open_files};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("fstab", |text| assert!(fstab::parse(text).len() <= text.lines().count(), "a line is at most one entry")),
    Target::text("mountinfo", |text| {
        let all = mounts::parse_mountinfo(text);
        assert!(all.len() <= text.lines().count(), "a line is at most one mount");
        drop(mounts::worth_checking(all, &["/var/lib/docker".to_owned()]));
    }),
    Target::text("diskstats", |text| drop(io::parse(text, |name| name.ends_with('1')))),
    Target::text("proc-fd", |text| {
        let _ = (open_files::deleted_path(text).is_some(), open_files::soft_limit(text));
    }),
];
