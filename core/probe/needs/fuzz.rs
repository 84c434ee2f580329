//! Fuzz target for dependencies named in environments.

use super::{bindings, host_port};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[Target::text("environment", |text| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    drop((host_port::in_environment(&lines), host_port::url(text).is_some(), bindings::addresses_in(text)));
})];
