//! Fuzz target of site runbooks.

use std::path::Path;

use opsctl_core::fuzz::Target;

use super::raw::File;
use super::{KnownNames, causes, parse_as, runbook_schema, valid};

pub(crate) const TARGETS: &[Target] = &[Target::text("site-runbook", |text| {
    let Ok(file) = parse_as::<File>(text, &runbook_schema()) else { return };
    let known = KnownNames::default();
    let mut names = causes::Names::new(&known);
    drop(names.learn([&file].into_iter()));
    let _ = valid::validate(&file, Path::new("x.toml"), &names);
})];
