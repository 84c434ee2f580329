//! Fuzz target for dependencies named in environments.

use crate::fuzz::Target;
use crate::probe::needs::{bindings, connection, environment, hosts_entries, proxy, services, upstreams};

pub(crate) const TARGETS: &[Target] = &[Target::text("environment", |text| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    drop(connection::connections(text, true, Some(80)));
    drop((services::environment_file(text, "f"), hosts_entries::parse(text)));
    upstreams::fuzz::run(text);
    drop((environment::addresses(&lines), bindings::addresses_in(text)));
    drop((bindings::binding_variables(&lines), proxy::settings_in(&lines)));
})];
