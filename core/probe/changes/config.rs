//! Modified configuration files: `/etc`, files of nginx, and files of compose projects.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::logs::written;
use crate::model::{Change, ChangeKind, Product};
use crate::probe::{Io, ProbeCx, ProbeError, blocking};

/// Depth limit, for example `/etc/systemd/system/app.service.d/limits.conf`, `/etc/nginx/sites-enabled/shop`.
const MAX_DEPTH: usize = 4;

/// Limit of examined names; the configuration of a host has fewer.
const MAX_ENTRIES: usize = 20_000;

/// Names that are written continuously or are no configuration: caches, backups of the account files, links of the package
/// system. Certificates have their own source.
const EXCLUDED_NAMES: &[&str] = &[
    "mtab",
    "adjtime",
    "ld.so.cache",
    ".pwd.lock",
    ".updated",
    "passwd-",
    "group-",
    "shadow-",
    "gshadow-",
    "subuid-",
    "subgid-",
    "alternatives",
    "ssl",
    "ca-certificates",
    "letsencrypt",
    "machine-id",
    "fonts",
    "terminfo",
    "rc0.d",
    "rc1.d",
    "rc2.d",
    "rc3.d",
    "rc4.d",
    "rc5.d",
    "rc6.d",
    "rcS.d",
    "selinux",
    "pki",
    // created by dockerd at its first start
    "key.json",
];

/// Runbooks by the prefix of host-wide configuration files.
const RUNBOOKS: &[(&str, &str)] = &[
    ("/etc/resolv.conf", "dns"),
    ("/etc/hosts", "dns"),
    ("/etc/nsswitch.conf", "dns"),
    ("/etc/systemd/resolved.conf", "dns"),
    ("/etc/fstab", "disk"),
    ("/etc/security/limits", "disk"),
    ("/etc/iptables", "network"),
    ("/etc/nftables", "network"),
    ("/etc/ufw", "network"),
    ("/etc/firewalld", "network"),
    ("/etc/netplan", "network"),
    ("/etc/network/", "network"),
    ("/etc/sysctl", "network"),
    ("/etc/sysctl", "memory"),
    ("/etc/chrony", "time"),
    ("/etc/ntp", "time"),
    ("/etc/systemd/timesyncd.conf", "time"),
];

/// Labels of a compose project with the paths of its files and with its directory.
const COMPOSE_FILES: &str = "com.docker.compose.project.config_files";
const COMPOSE_DIRECTORY: &str = "com.docker.compose.project.working_dir";

/// Errors of compose projects are added to `unread`: their files may be on a user's file system that hangs, which must not affect
/// the other sources.
pub(super) async fn read(
    cx: &ProbeCx,
    since: Timestamp,
    timeout: Duration,
    unread: &mut Vec<String>,
) -> Result<Vec<Change>, ProbeError> {
    let walk_etc = move |io: &Io| {
        let mut found = BTreeMap::new();
        walk(io, Path::new("/etc"), since, 1, &mut 0, &mut found);
        found
    };
    let projects = projects(cx);
    let compose =
        blocking::run("configuration files", "compose projects", timeout / 2, move |io| project_changes(io, projects, since));
    let (found, compose) = tokio::join!(blocking::run("configuration files", "/etc", timeout, walk_etc), compose);
    let mut found = found?;
    match compose {
        Ok(changes) => found.extend(changes),
        Err(e) => unread.push(e.to_string()),
    }
    for server in cx.inventory.servers.iter().filter(|s| s.product == Product::Nginx) {
        let target = server.object();
        // an nginx that does not run has no configuration in use
        let Ok(nginx) = cx.nginx(&target) else { continue };
        for file in &nginx.files {
            let Some(at) = file.modified.filter(|at| *at >= since) else { continue };
            let inside = server.container.as_ref().map(|_| format!(" in {}", server.name)).unwrap_or_default();
            let subject = format!("{}{inside}", file.path);
            let change = found.remove(&subject).unwrap_or_else(|| Change::new(at, ChangeKind::Config, &subject, "written"));
            found.insert(subject, change.concerning(format!("server:{}", server.id)));
        }
    }
    Ok(found.into_values().collect())
}

fn project_changes(io: &Io, projects: BTreeMap<String, Vec<String>>, since: Timestamp) -> Vec<(String, Change)> {
    let change = |(path, containers): (String, Vec<String>)| {
        let at = written(io, Path::new(&path)).filter(|at| *at >= since)?;
        let change = Change::new(at, ChangeKind::Config, &path, "written");
        Some((path, containers.into_iter().fold(change, Change::concerning)))
    };
    projects.into_iter().filter_map(change).collect()
}

/// The files of all compose projects, each with the containers created from it.
fn projects(cx: &ProbeCx) -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for c in &cx.inventory.containers {
        let directory = c.labels.get(COMPOSE_DIRECTORY);
        let named = c.labels.get(COMPOSE_FILES).into_iter().flat_map(|f| f.split(','));
        let paths = named.map(|f| absolute(f.trim(), directory)).chain(directory.map(|f| format!("{f}/.env")));
        for path in paths.filter(|p| p.starts_with('/')) {
            files.entry(path).or_default().push(format!("container:{}", c.name));
        }
    }
    files
}

/// Old versions of compose store the paths as given on the command line.
fn absolute(file: &str, directory: Option<&String>) -> String {
    match directory {
        Some(directory) if !file.starts_with('/') => format!("{directory}/{file}"),
        _ => file.to_owned(),
    }
}

fn walk(io: &Io, directory: &Path, since: Timestamp, depth: usize, seen: &mut usize, found: &mut BTreeMap<String, Change>) {
    for entry in io.read_dir(directory).into_iter().flatten().flatten() {
        *seen += 1;
        if *seen > MAX_ENTRIES {
            return;
        }
        let (path, name) = (entry.path(), entry.file_name());
        let (Some(shown), Some(name), Ok(kind)) = (path.to_str(), name.to_str(), entry.file_type()) else { continue };
        if EXCLUDED_NAMES.contains(&name) || is_spare(name) {
            continue;
        }
        if kind.is_dir() {
            if depth < MAX_DEPTH {
                walk(io, &path, since, depth + 1, seen, found);
            }
        } else if let Some(at) = written(io, &path).filter(|at| *at >= since) {
            // a site is enabled by a symbolic link
            let description = if kind.is_symlink() { "link set" } else { "written" };
            let change = Change::new(at, ChangeKind::Config, shown, description);
            found.insert(shown.to_owned(), concerns(shown).into_iter().fold(change, Change::concerning));
        }
    }
}

/// Whether a file is a temporary or backup file of an editor or the package system.
pub(super) fn is_spare(name: &str) -> bool {
    let ends = ["~", ".swp", ".swx", ".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp", ".dpkg-bak", ".bak", ".ucf-dist"];
    ends.iter().any(|e| name.ends_with(e)) || name.starts_with(".#") || name.starts_with('#')
}

/// The objects that a file below `/etc` configures.
pub(super) fn concerns(path: &str) -> Vec<String> {
    let rest = path.strip_prefix("/etc/").unwrap_or(path);
    let mut concerns: Vec<String> =
        RUNBOOKS.iter().filter(|(prefix, _)| path.starts_with(prefix)).map(|(_, id)| format!("runbook:{id}")).collect();
    if let Some(unit) = rest.strip_prefix("systemd/system/").and_then(|r| r.split('/').next()) {
        let unit = unit.strip_suffix(".d").unwrap_or(unit);
        if unit.ends_with(".service") {
            concerns.push(format!("unit:{unit}"));
            // an instance is created from its template
            concerns.extend(unit.strip_suffix("@.service").map(|stem| format!("etc:{stem}")));
        }
    } else if rest == "docker/daemon.json" || rest.starts_with("docker/") || rest == "default/docker" {
        concerns.push("unit:docker.service".to_owned());
    } else {
        let own = rest.strip_prefix("default/").unwrap_or(rest);
        let name = own.split('/').next().unwrap_or(own);
        concerns.push(format!("etc:{}", name.strip_suffix(".conf").unwrap_or(name)));
    }
    concerns
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn config_file_concerns_the_configured_object() {
        for (path, expected) in [
            ("/etc/nginx/sites-enabled/shop", &["etc:nginx"][..]),
            ("/etc/redis/redis.conf", &["etc:redis"]),
            ("/etc/default/haproxy", &["etc:haproxy"]),
            ("/etc/systemd/system/app.service", &["unit:app.service"]),
            ("/etc/systemd/system/app.service.d/limits.conf", &["unit:app.service"]),
            ("/etc/systemd/system/worker@.service", &["unit:worker@.service", "etc:worker"]),
            ("/etc/docker/daemon.json", &["unit:docker.service"]),
            ("/etc/resolv.conf", &["runbook:dns", "etc:resolv"]),
            ("/etc/sysctl.d/99-lab.conf", &["runbook:network", "runbook:memory", "etc:sysctl.d"]),
        ] {
            assert_eq!(concerns(path), expected, "{path}");
        }
    }

    #[test]
    fn only_files_modified_since_are_reported() {
        let etc = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = etc.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let now = Timestamp::now();
        let old = put("old.conf");
        std::fs::File::options().write(true).open(old).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        for path in ["app/app.conf", "a/b/c/deep.conf", "a/b/c/d/too-deep.conf", "ssl/x.pem", "app/app.conf~", "passwd-"] {
            put(path);
        }
        std::os::unix::fs::symlink("/nonexistent", etc.path().join("app/enabled")).unwrap();
        let mut found = BTreeMap::new();
        let since = now - jiff::SignedDuration::from_secs(60);
        walk(&Io::for_test(), etc.path(), since, 1, &mut 0, &mut found);
        let prefix = format!("{}/", etc.path().display());
        let described: Vec<String> = found.values().map(|c| c.summary().replace(&prefix, "")).collect();
        assert_eq!(described, ["a/b/c/deep.conf written", "app/app.conf written", "app/enabled link set"]);
    }

    #[test]
    fn relative_compose_paths_are_resolved() {
        let directory = "/srv/shop".to_owned();
        assert_eq!(absolute("compose.yml", Some(&directory)), "/srv/shop/compose.yml");
        assert_eq!(absolute("/opt/compose.yml", Some(&directory)), "/opt/compose.yml");
    }
}
