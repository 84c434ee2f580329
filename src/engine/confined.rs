//! Checks that are left out while opsctl runs in an application container: their data would be those of the container.

use opsctl_core::model::{Inventory, Kind, Object};

/// Checks that read the engine's API only. `container.errors` is not among them: which containers are web servers, whose errors are
/// judged by a runbook of their own, is known from processes.
const ENGINE_CHECKS: &[&str] = &[
    "container.architecture",
    "container.engine",
    "container.expected",
    "container.image",
    "container.state",
    "healthcheck.state",
];

/// Why a check is left out; the same text for all of them, so that they are one line of the report.
pub(super) fn left_out(inventory: &Inventory, check: &str, target: &Object) -> Option<String> {
    let container = inventory.confined.as_deref()?;
    let is_remote = |id: &str| inventory.server(id).is_some_and(|s| s.address.is_some());
    let is_seen = match target.kind {
        Kind::Container | Kind::Engine => ENGINE_CHECKS.contains(&check),
        Kind::Host => check == "container.expected",
        Kind::Endpoint | Kind::Certificate => true,
        _ => is_remote(&target.id),
    };
    (!is_seen).then(|| {
        format!(
            "opsctl runs in container {container} and does not see the processes, sockets, files and settings of this host; run it on \
             the host (`sudo opsctl`), or its image with the processes of the host (`docker run --rm --privileged \
             --pid=host \u{2026}`)"
        )
    })
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{Product, ServerRef};

    use super::*;

    fn confined() -> Inventory {
        let server = ServerRef {
            product: Product::Redis,
            name: "cache".into(),
            id: "redis:cache.example:6379".into(),
            found_by: "configuration".into(),
            process: None,
            container: None,
            unit: None,
            address: Some(("cache.example".into(), 6379)),
            untrusted: None,
        };
        Inventory { confined: Some("tools".into()), servers: vec![server], ..Inventory::default() }
    }

    #[test]
    fn checks_of_the_host_are_left_out_for_one_reason() {
        let inventory = confined();
        let why = |check: &str, target: Object| left_out(&inventory, check, &target);
        let host = why("disk.space", Object::host());
        assert!(host.as_ref().is_some_and(|why| why.contains("container tools")), "{host:?}");
        for (check, target) in [
            ("container.storage", Object::named(Kind::Container, "web")),
            ("network.published", Object::named(Kind::Engine, "docker")),
            ("redis.up", Object::named(Kind::Redis, "db")),
            ("site.jobs", Object::named(Kind::Service, "jobs")),
        ] {
            assert_eq!(why(check, target), host, "{check}");
        }
    }

    #[test]
    fn data_of_the_engine_and_of_remote_servers_are_checked() {
        let inventory = confined();
        for (check, target) in [
            ("container.state", Object::named(Kind::Container, "web")),
            ("container.engine", Object::named(Kind::Engine, "docker")),
            ("healthcheck.endpoint", Object::named(Kind::Endpoint, "https://a.example/")),
            ("redis.up", Object::new(Kind::Redis, "cache", "redis:cache.example:6379")),
        ] {
            assert_eq!(left_out(&inventory, check, &target), None, "{check}");
        }
    }

    #[test]
    fn nothing_is_left_out_on_a_host() {
        assert_eq!(left_out(&Inventory::default(), "disk.space", &Object::host()), None);
    }
}
