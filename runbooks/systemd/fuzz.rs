//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::{names, timer};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("calendar", |text| {
        let _ = timer::calendar_period(text);
    }),
    Target::text("unit-pattern", |text| {
        let (pattern, name) = text.split_once('\n').unwrap_or((text, text));
        let _ = names::fits(pattern, name);
    }),
];
