//! Fuzz targets of the journal and of unit names.

use super::{is_unit, journal, object_path};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("journal", |text| {
        assert!(text.lines().filter_map(journal::parse).count() <= text.lines().count(), "a line is at most one");
    }),
    Target::text("unit-name", |text| {
        if !is_unit(text) {
            return;
        }
        let path = object_path(text);
        assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/' || b == b'_'), "not a D-Bus path: {path:?}");
    }),
];
