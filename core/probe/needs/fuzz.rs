//! Fuzz target for dependencies named in environments.

use crate::fuzz::Target;
use crate::probe::host_port;
use crate::probe::needs::bindings;

pub(crate) const TARGETS: &[Target] = &[Target::text("environment", |text| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    drop((host_port::in_environment(&lines), host_port::url(text).is_some(), bindings::addresses_in(text)));
})];
