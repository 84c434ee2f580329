//! Names of the containers that own paths below the engine's data root; the paths themselves consist of hashes.

use std::collections::BTreeMap;
use std::path::Path;

use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::Container;

/// Owners of directories and files: path -> `/tmp in the writable layer of web`.
pub(super) type Holders = BTreeMap<String, String>;

/// Queries the engines for the owners of those paths that are below their data roots.
pub(super) async fn find(cx: &ProbeCx, paths: &[&str]) -> Holders {
    let Some(docker) = cx.docker.as_ref() else { return Holders::new() };
    let mut roots = Vec::new();
    for engine in docker.engines() {
        roots.extend(engine.data_root().await.ok());
    }
    let root_of = |path: &str| roots.iter().filter(|root| Path::new(path).starts_with(root)).max_by_key(|root| root.len());
    let own: Vec<(&str, &String)> = paths.iter().filter_map(|path| Some((*path, root_of(path)?))).collect();
    if own.is_empty() {
        return Holders::new();
    }
    let containers = cx.inspected(&cx.inventory.containers).await;
    let containers: Vec<&Container> = containers.iter().map(AsRef::as_ref).collect();
    own.iter().filter_map(|(path, root)| Some(((*path).to_owned(), holder(path, root, &containers)?))).collect()
}

/// The owner of a path below the data root: a writable layer, volume, bind mount or log of a container. A container with the
/// whole data root or the whole host mounted is no owner.
fn holder(path: &str, root: &str, containers: &[&Container]) -> Option<String> {
    let below = |parent: &str| Path::new(path).strip_prefix(parent).ok().filter(|_| !parent.is_empty());
    let own_layer = |c: &&Container| Some(format!("/{} in the writable layer of {}", below(&c.own_layer)?.display(), c.name));
    if let Some(found) = containers.iter().find_map(own_layer) {
        return Some(found);
    }
    let within = |source: &str| source != root && Path::new(source).starts_with(root);
    let mounted = |c: &&Container| c.mounts.iter().find(|m| within(&m.source) && below(&m.source).is_some()).cloned();
    if let Some(mount) = containers.iter().find_map(mounted) {
        let users: Vec<&str> = containers.iter().filter(|c| mounted(c).is_some()).map(|c| c.name.as_str()).collect();
        let source = if mount.kind == "volume" { format!("volume {}", mount.name) } else { mount.destination };
        return Some(format!("{source} of {}", users.join(", ")));
    }
    let log =
        |c: &&&Container| Path::new(&c.log.path).parent().is_some_and(|f| f != Path::new("") && Path::new(path).starts_with(f));
    containers.iter().find(log).map(|c| format!("log of {}", c.name))
}

/// `/srv/a 5 GiB, /var/lib/docker/… 2 GiB (volume data of etl)`.
pub(super) fn cited<'a>(sizes: impl Iterator<Item = (&'a str, String)>, holders: &Holders) -> String {
    let named = |path: &str| holders.get(path).map(|holder| format!(" ({holder})")).unwrap_or_default();
    sizes.map(|(path, size)| format!("{path} {size}{}", named(path))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::docker::{LogConfig, Mount};

    use super::*;

    #[test]
    fn engine_path_is_attributed_to_its_container() {
        let mount = |kind: &str, name: &str, source: &str, destination: &str| Mount {
            kind: kind.into(),
            name: name.into(),
            source: source.into(),
            destination: destination.into(),
            rw: true,
        };
        let volume = mount("volume", "data", "/var/lib/docker/volumes/data/_data", "/data");
        let web = Container {
            name: "web".into(),
            own_layer: "/var/lib/docker/overlay2/7f29/diff".into(),
            mounts: vec![volume.clone()],
            log: LogConfig { path: "/var/lib/docker/containers/ab/ab-json.log".into(), ..LogConfig::default() },
            ..Container::default()
        };
        let bind = mount("bind", "", "/var/lib/docker/shared", "/shared");
        let host = mount("bind", "", "/", "/rootfs");
        let docker = mount("bind", "", "/var/lib/docker", "/var/lib/docker");
        let cadvisor = Container { name: "cadvisor".into(), mounts: vec![host, docker], ..Container::default() };
        let etl = Container { name: "etl".into(), mounts: vec![volume, bind], ..Container::default() };
        let all = [&cadvisor, &web, &etl];
        let owner = |path: &str| holder(path, "/var/lib/docker", &all);
        assert_eq!(owner("/var/lib/docker/overlay2/7f29/diff/tmp").as_deref(), Some("/tmp in the writable layer of web"));
        assert_eq!(owner("/var/lib/docker/volumes/data/_data/2026").as_deref(), Some("volume data of web, etl"));
        assert_eq!(owner("/var/lib/docker/shared").as_deref(), Some("/shared of etl"));
        assert_eq!(owner("/var/lib/docker/containers/ab").as_deref(), Some("log of web"));
        for unowned in ["/var/lib/docker", "/var/lib/docker/overlay2/7f2", "/var/lib/docker/overlay2/7f29/diffs", "/srv"] {
            assert_eq!(owner(unowned), None, "{unowned}");
        }
        let holders = Holders::from([("/srv".to_owned(), "volume data of web".to_owned())]);
        let sizes = || [("/srv", "2 KiB".to_owned()), ("/opt", "1 KiB".to_owned())].into_iter();
        assert_eq!(cited(sizes(), &holders), "/srv 2 KiB (volume data of web), /opt 1 KiB");
        assert_eq!(cited(sizes().take(1), &Holders::new()), "/srv 2 KiB");
    }
}
