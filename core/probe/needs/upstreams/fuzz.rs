//! Fuzz target for the configuration of reverse proxies.

use super::{apache, caddy, haproxy, traefik};

/// Runs every parser.
pub(in crate::probe::needs) fn run(text: &str) {
    drop((haproxy::parse(text, "f"), apache::directives(text, "f")));
    drop((caddy::caddyfile(text, "f"), caddy::json(text, "f"), traefik::parse(text, "f")));
}
