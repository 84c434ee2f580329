//! Dependencies between containers, from the labels of compose.

use super::Container;
use crate::model::ContainerRef;

/// Containers affected when this one stops: those that depend on its service according to compose, and those in its network
/// namespace.
#[must_use]
pub fn dependants(all: &[ContainerRef], container: &Container) -> Vec<String> {
    let in_its_network = |o: &ContainerRef| o.network_mode.strip_prefix("container:") == Some(&container.id);
    let needs_its_service = |o: &ContainerRef| {
        let Some((project, service)) = container.compose() else { return false };
        o.project.as_deref() == Some(project) && depends_on(o).any(|(s, _)| s == service)
    };
    all.iter().filter(|o| o.id != container.id && (in_its_network(o) || needs_its_service(o))).map(|o| o.name.clone()).collect()
}

/// Service and condition of `db:service_healthy:false,migrate:service_completed_successfully:false`, or of service names from
/// older
/// /// compose versions.
pub fn depends_on(container: &ContainerRef) -> impl Iterator<Item = (&str, &str)> {
    let label = container.labels.get("com.docker.compose.depends_on").map_or("", String::as_str);
    label.split(',').filter(|d| !d.is_empty()).map(|d| {
        let mut parts = d.split(':');
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    })
}
