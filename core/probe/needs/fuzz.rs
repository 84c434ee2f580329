//! Fuzz target for dependencies named in environments.

use super::{bindings, places};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[Target::text("environment", |text| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    drop((places::in_environment(&lines), places::url(text).is_some(), bindings::addresses_in(text)));
})];
