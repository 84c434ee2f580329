//! Fuzz targets of the journal, of ignored settings and of unit names.

use super::{ignored, is_unit, journal, object_path};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("journal", |text| {
        assert!(text.lines().filter_map(journal::parse).count() <= text.lines().count(), "a line is at most one");
    }),
    Target::text("ignored-setting", |text| {
        let Some(setting) = ignored::parse(text) else { return };
        assert!(text.starts_with(&setting.file) && !setting.unit.contains('/'), "not the place of the line: {setting:?}");
    }),
    Target::text("unit-name", |text| {
        if !is_unit(text) {
            return;
        }
        let path = object_path(text);
        assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/' || b == b'_'), "not a D-Bus path: {path:?}");
    }),
];
