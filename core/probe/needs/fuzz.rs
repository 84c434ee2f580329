//! Fuzz target for dependencies named in environments.

use crate::fuzz::Target;
use crate::probe::needs::{bindings, environment, proxy};

pub(crate) const TARGETS: &[Target] = &[Target::text("environment", |text| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    drop((environment::addresses(&lines), bindings::addresses_in(text)));
    drop((bindings::binding_variables(&lines), proxy::settings_in(&lines)));
})];
