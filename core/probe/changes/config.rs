//! Configuration files that were written: `/etc`, what nginx reads, and the files that compose projects are made from.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::logs::written;
use crate::model::{Change, ChangeKind, Product, Target};
use crate::probe::{Io, ProbeCx, ProbeError, blocking};

/// Folders within folders: `/etc/systemd/system/app.service.d/limits.conf`, `/etc/nginx/sites-enabled/shop`.
const DEEPEST: usize = 4;

/// More names than the configuration of a host has.
const MOST: usize = 20_000;

/// What is written all the time, or for somebody else: caches, backups of the account files, links of the package system; certificates
/// have a source of their own.
const NOT_CONFIGURED: &[&str] = &[
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
    // dockerd makes it at its first start
    "key.json",
];

/// Which runbook looks at what a file decides for the whole machine.
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

/// A compose project's label with the paths of its files, and the one with its folder.
const COMPOSE_FILES: &str = "com.docker.compose.project.config_files";
const COMPOSE_FOLDER: &str = "com.docker.compose.project.working_dir";

/// What could not be read of compose projects goes into `unread`: their files may be on a user's file system that hangs, and cost
/// nothing else.
pub(super) async fn read(
    cx: &ProbeCx,
    since: Timestamp,
    patience: Duration,
    unread: &mut Vec<String>,
) -> Result<Vec<Change>, ProbeError> {
    let walk_etc = move |io: &Io| {
        let mut found = BTreeMap::new();
        walk(io, Path::new("/etc"), since, 1, &mut 0, &mut found);
        found
    };
    let projects = projects(cx);
    let compose =
        blocking::run("configuration files", "compose projects", patience / 2, move |io| of_projects(io, projects, since));
    let (found, compose) = tokio::join!(blocking::run("configuration files", "/etc", patience, walk_etc), compose);
    let mut found = found?;
    match compose {
        Ok(changes) => found.extend(changes),
        Err(e) => unread.push(e.to_string()),
    }
    for server in cx.inventory.servers.iter().filter(|s| s.product == Product::Nginx) {
        let target = Target { kind: server.product.kind(), name: server.name.clone(), id: server.id.clone() };
        // one that does not run has no files that it reads
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

fn of_projects(io: &Io, projects: BTreeMap<String, Vec<String>>, since: Timestamp) -> Vec<(String, Change)> {
    let change = |(path, containers): (String, Vec<String>)| {
        let at = written(io, Path::new(&path)).filter(|at| *at >= since)?;
        let change = Change::new(at, ChangeKind::Config, &path, "written");
        Some((path, containers.into_iter().fold(change, Change::concerning)))
    };
    projects.into_iter().filter_map(change).collect()
}

/// The files of all compose projects, each with the containers that are made from it.
fn projects(cx: &ProbeCx) -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for c in &cx.inventory.containers {
        let folder = c.labels.get(COMPOSE_FOLDER);
        let named = c.labels.get(COMPOSE_FILES).into_iter().flat_map(|f| f.split(','));
        let paths = named.map(|f| absolute(f.trim(), folder)).chain(folder.map(|f| format!("{f}/.env")));
        for path in paths.filter(|p| p.starts_with('/')) {
            files.entry(path).or_default().push(format!("container:{}", c.name));
        }
    }
    files
}

/// Old versions of compose write paths as they were given.
fn absolute(file: &str, folder: Option<&String>) -> String {
    match folder {
        Some(folder) if !file.starts_with('/') => format!("{folder}/{file}"),
        _ => file.to_owned(),
    }
}

fn walk(io: &Io, directory: &Path, since: Timestamp, depth: usize, seen: &mut usize, found: &mut BTreeMap<String, Change>) {
    for entry in io.read_dir(directory).into_iter().flatten().flatten() {
        *seen += 1;
        if *seen > MOST {
            return;
        }
        let (path, name) = (entry.path(), entry.file_name());
        let (Some(shown), Some(name), Ok(kind)) = (path.to_str(), name.to_str(), entry.file_type()) else { continue };
        if NOT_CONFIGURED.contains(&name) || is_spare(name) {
            continue;
        }
        if kind.is_dir() {
            if depth < DEEPEST {
                walk(io, &path, since, depth + 1, seen, found);
            }
        } else if let Some(at) = written(io, &path).filter(|at| *at >= since) {
            // a site is enabled with a link
            let what = if kind.is_symlink() { "link set" } else { "written" };
            let change = Change::new(at, ChangeKind::Config, shown, what);
            found.insert(shown.to_owned(), concerns(shown).into_iter().fold(change, Change::concerning));
        }
    }
}

/// What editors and the package system leave beside a file.
pub(super) fn is_spare(name: &str) -> bool {
    let ends = ["~", ".swp", ".swx", ".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp", ".dpkg-bak", ".bak", ".ucf-dist"];
    ends.iter().any(|e| name.ends_with(e)) || name.starts_with(".#") || name.starts_with('#')
}

/// What a file below `/etc` decides.
pub(super) fn concerns(path: &str) -> Vec<String> {
    let rest = path.strip_prefix("/etc/").unwrap_or(path);
    let mut concerns: Vec<String> =
        RUNBOOKS.iter().filter(|(prefix, _)| path.starts_with(prefix)).map(|(_, id)| format!("runbook:{id}")).collect();
    if let Some(unit) = rest.strip_prefix("systemd/system/").and_then(|r| r.split('/').next()) {
        let unit = unit.strip_suffix(".d").unwrap_or(unit);
        if unit.ends_with(".service") {
            concerns.push(format!("unit:{unit}"));
            // an instance is made from its template
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
    fn a_file_concerns_what_it_configures() {
        for (path, wanted) in [
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
            assert_eq!(concerns(path), wanted, "{path}");
        }
    }

    #[test]
    fn only_what_was_written_since_then_is_told() {
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
        let told: Vec<String> = found.values().map(|c| c.says().replace(&prefix, "")).collect();
        assert_eq!(told, ["a/b/c/deep.conf written", "app/app.conf written", "app/enabled link set"]);
    }

    #[test]
    fn paths_of_compose_may_be_relative() {
        let folder = "/srv/shop".to_owned();
        assert_eq!(absolute("compose.yml", Some(&folder)), "/srv/shop/compose.yml");
        assert_eq!(absolute("/opt/compose.yml", Some(&folder)), "/opt/compose.yml");
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_survived(path in ".*") {
            let _ = (concerns(&path), concerns(&format!("/etc/{path}")), is_spare(&path));
        }
    }
}
