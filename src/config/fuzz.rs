//! Fuzz target of the addresses of servers.

use opsctl_core::fuzz::Target;

use super::server;

pub(crate) const TARGETS: &[Target] = &[Target::text("server-url", |text| {
    drop((server::fill(text, &|_| None), server::decoded(text), server::parse_url(text)));
})];
