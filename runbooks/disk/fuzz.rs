//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::io;

pub(crate) const TARGETS: &[Target] = &[Target::text("disk-errors", |text| text.lines().map(io::failing_device).for_each(drop))];
