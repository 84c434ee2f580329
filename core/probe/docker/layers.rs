//! The files and the user of the next run of a container.

use serde_json::Value;

use super::api::encoded;
use super::{Container, Docker};
use crate::probe::ProbeError;
use crate::probe::io::view::FileView;

/// The files of a container as its next run uses them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFiles {
    /// Its layers and mounts on this host.
    pub view: FileView,
    /// `User` of its configuration: a name or a number, with or without a group; empty for root.
    pub user: String,
    /// Directory in which its program is started.
    pub working_directory: String,
    /// The ids of users differ between the container and this host (`userns-remap`, rootless engine).
    pub ids_are_mapped: bool,
}

impl Docker {
    /// The files of the next run of a container: its mounts, and its layers if the engine uses overlayfs without containerd's
    /// image store.
    pub async fn files_of_next_run(&self, container: &Container) -> Result<ContainerFiles, ProbeError> {
        let engine = self.of(&container.id);
        let subject = format!("the layers of container {}", container.name);
        if !engine.is_local() {
            return Err(ProbeError::failed(subject, engine.endpoint.to_string(), "they are not those of an engine of this host"));
        }
        let path = format!("/containers/{}/json", encoded(&container.id));
        let inspected = engine.read(&subject, &path).await?;
        let settings = engine.settings().await?;
        Ok(files(&inspected, container, &settings.data_root, settings.rootless))
    }
}

/// `GraphDriver` (`Name`, `Data.UpperDir`, `Data.LowerDir`), `Config.User`, `Config.WorkingDir` and `HostConfig.Tmpfs` of
/// `GET /containers/ID/json`.
fn files(inspected: &Value, container: &Container, data_root: &str, rootless: bool) -> ContainerFiles {
    let text = |pointer: &str| inspected.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut layers = Vec::new();
    if text("/GraphDriver/Name").starts_with("overlay") {
        let lower = text("/GraphDriver/Data/LowerDir");
        let upper = text("/GraphDriver/Data/UpperDir");
        layers.extend(Some(upper).filter(|d| d.starts_with('/')));
        layers.extend(lower.split(':').filter(|d| d.starts_with('/')).map(str::to_owned));
    }
    let mut view = FileView { layers, ..FileView::default() };
    for mount in &container.mounts {
        if mount.source.starts_with('/') && mount.kind != "tmpfs" {
            view.mounts.push((mount.destination.clone(), mount.source.clone()));
        } else {
            view.hidden.push(mount.destination.clone());
        }
    }
    let tmpfs = inspected.pointer("/HostConfig/Tmpfs").and_then(Value::as_object);
    view.hidden.extend(tmpfs.into_iter().flat_map(|t| t.keys().cloned()));
    // provided by the engine at the start
    view.hidden.extend(["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(str::to_owned));
    ContainerFiles {
        view,
        user: text("/Config/User"),
        working_directory: text("/Config/WorkingDir"),
        ids_are_mapped: rootless || is_remapped(data_root),
    }
}

/// With `userns-remap` the data directory ends with the ids of the mapped root: `/var/lib/docker/100000.100000`.
fn is_remapped(data_root: &str) -> bool {
    let last = data_root.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    last.split_once('.').is_some_and(|(user, group)| is_number(user) && is_number(group))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Mount;
    use super::*;

    fn container() -> Container {
        let mount = |kind: &str, source: &str, destination: &str| Mount {
            kind: kind.into(),
            source: source.into(),
            destination: destination.into(),
            ..Mount::default()
        };
        Container { mounts: vec![mount("bind", "/srv/app", "/app"), mount("tmpfs", "", "/run/app")], ..Container::default() }
    }

    #[test]
    fn layers_of_overlay() {
        let inspected = json!({
            "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/d/up", "LowerDir": "/d/init:/d/base"}},
            "Config": {"User": "1000:1000", "WorkingDir": "/app"},
            "HostConfig": {"Tmpfs": {"/tmp": ""}},
        });
        let found = files(&inspected, &container(), "/var/lib/docker", false);
        assert_eq!(found.view.layers, ["/d/up", "/d/init", "/d/base"]);
        assert_eq!(found.view.mounts, [("/app".to_owned(), "/srv/app".to_owned())]);
        assert!(["/run/app", "/tmp"].iter().all(|d| found.view.hidden.iter().any(|h| h == d)), "{:?}", found.view.hidden);
        assert_eq!((found.user.as_str(), found.working_directory.as_str()), ("1000:1000", "/app"));
    }

    #[test]
    fn image_store_of_containerd_reports_no_layers() {
        let found = files(&json!({"GraphDriver": {"Name": "overlayfs", "Data": null}}), &container(), "", false);
        assert!(found.view.layers.is_empty() && !found.view.mounts.is_empty());
    }

    #[test]
    fn remapped_data_directory() {
        assert!(is_remapped("/var/lib/docker/100000.100000") && is_remapped("/srv/231072.231072/"));
        assert!(!is_remapped("/var/lib/docker") && !is_remapped("/var/lib/docker.d") && !is_remapped(""));
    }
}
