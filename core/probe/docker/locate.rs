//! Location of the container engines, configured or detected.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::connect::{Endpoint, candidates};
use super::contexts;
use crate::probe::io::command::home_directory;
use crate::probe::{Io, environment};

/// An expected engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// Source of the endpoint: shown by `opsctl targets`.
    pub found_by: String,
    /// It is named, or its unit is enabled: no answer is a fault, also while another engine answers. Any other socket may be the
    /// remains of a removed engine.
    pub expected: bool,
    /// Name of another user, if the engine belongs to one.
    pub user: Option<String>,
}

/// The engines of this host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Engines {
    /// In the order of preference.
    pub located: Vec<Located>,
    /// The engine was named by the user: no other one is looked for.
    pub is_named: bool,
}

/// The socket of Docker, and the same without the link `/var/run`, which small images lack.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const DOCKER_SOCKET_IN_RUN: &str = "/run/docker.sock";

/// Exists while `docker.service` is enabled.
const DOCKER_ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/docker.service";

/// Finds the engines of this host. An engine that is named is the only one: by the configuration, by `DOCKER_HOST`, or by
/// `DOCKER_CONTEXT`. Otherwise these are the current context of the Docker CLI, every well-known socket that exists, and the
/// default socket of an enabled `docker.service`. Empty if this host has no engine.
pub fn locate(io: &Io, configured: Option<&str>) -> Result<Engines, String> {
    let home = home_directory(io).map(|home| home.join(".docker"));
    let named = |text: &str, found_by: &str| {
        let endpoint = Endpoint::parse_with(text, tls_directory(text, home.as_deref()));
        endpoint.map(|endpoint| only(endpoint, found_by)).map_err(|e| format!("{found_by} {text:?}: {e}"))
    };
    if let Some(text) = configured {
        return named(text, "configuration");
    }
    let variable = |name: &str| environment(name).filter(|text| !text.is_empty());
    if let Some(text) = variable("DOCKER_HOST") {
        return named(&text, "DOCKER_HOST");
    }
    // read only if no other user can change them: root may have inherited the variable
    let directory = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home.clone());
    if let Some(name) = variable("DOCKER_CONTEXT").filter(|name| contexts::is_named(name)) {
        let directory = directory.ok_or("DOCKER_CONTEXT is set, and this user has no home directory")?;
        let endpoint = contexts::endpoint(&directory, &name).map_err(|e| format!("DOCKER_CONTEXT {name:?}: {e}"))?;
        return Ok(only(endpoint, "DOCKER_CONTEXT"));
    }
    let mut found = Vec::new();
    // without the variable, a context that cannot be used hides no socket of this host
    let current = directory.as_deref().and_then(|d| Some((d, contexts::current(d).ok()??)));
    if let Some(endpoint) = current.and_then(|(directory, name)| contexts::endpoint(directory, &name).ok()) {
        found.push(expected(endpoint, "current context of the Docker CLI"));
    }
    well_known(io, &mut found);
    Ok(Engines { located: found, is_named: false })
}

fn only(endpoint: Endpoint, found_by: &str) -> Engines {
    Engines { located: vec![expected(endpoint, found_by)], is_named: true }
}

fn expected(endpoint: Endpoint, found_by: &str) -> Located {
    Located { endpoint, found_by: found_by.to_owned(), expected: true, user: None }
}

/// The directory of the files for TLS, if the endpoint is to be encrypted: docker(1), `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`.
fn tls_directory(endpoint: &str, home: Option<&Path>) -> Option<PathBuf> {
    let is_set = |name: &str| environment(name).is_some_and(|text| !text.is_empty());
    let encrypted = endpoint.starts_with("https://") || is_set("DOCKER_TLS_VERIFY");
    let directory = environment("DOCKER_CERT_PATH").filter(|path| path.starts_with('/')).map(PathBuf::from);
    directory.or_else(|| home.map(Path::to_owned)).filter(|_| encrypted)
}

/// Adds the well-known sockets, each once: `/var/run` is a link, and with podman-docker the socket of Docker is, too.
fn well_known(io: &Io, found: &mut Vec<Located>) {
    // sudo may keep the variable of the calling user, and the engine is the proof of which containers exist
    let own = rustix::process::geteuid().as_raw();
    let is_own = |dir: &PathBuf| io.metadata(dir).is_ok_and(|m| m.uid() == own);
    let by_default = || Some(PathBuf::from(format!("/run/user/{own}"))).filter(is_own);
    let runtime_dir = environment("XDG_RUNTIME_DIR").map(PathBuf::from).filter(is_own).or_else(by_default);
    let identity = |path: &Path| io.metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let mut known: Vec<(u64, u64)> = Vec::new();
    for located in &*found {
        if let Endpoint::Unix(path) = &located.endpoint {
            known.extend(identity(path));
        }
    }
    // an enabled unit with a missing socket is an outage, not a host without Docker
    let enabled = io.symlink_metadata(DOCKER_ENABLED).is_ok();
    let docker = docker_socket(|path| io.symlink_metadata(path).is_ok());
    for path in candidates(docker, runtime_dir.as_deref()) {
        let is_docker = path == docker;
        // podman-docker links the socket of Docker to that of Podman, which does not exist until podman.socket is enabled
        let dangling = || io.metadata(&path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
        let exists = io.symlink_metadata(&path).is_ok() && !dangling();
        let identity = identity(&path);
        if !(exists || is_docker && enabled) || identity.is_some_and(|identity| known.contains(&identity)) {
            continue;
        }
        known.extend(identity);
        let found_by = if exists { "well-known socket" } else { "docker.service is enabled" };
        found.push(Located {
            endpoint: Endpoint::Unix(path),
            found_by: found_by.to_owned(),
            expected: is_docker && enabled,
            user: None,
        });
    }
}

/// The path of Docker's socket.
fn docker_socket(exists: impl Fn(&str) -> bool) -> &'static Path {
    let without_link = !exists(DOCKER_SOCKET) && exists(DOCKER_SOCKET_IN_RUN);
    Path::new(if without_link { DOCKER_SOCKET_IN_RUN } else { DOCKER_SOCKET })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn socket_of_docker_without_the_link_var_run() {
        assert_eq!(docker_socket(|path| path == DOCKER_SOCKET_IN_RUN), Path::new("/run/docker.sock"));
        for with_link in [true, false] {
            assert_eq!(docker_socket(|_| with_link), Path::new("/var/run/docker.sock"));
        }
    }

    #[test]
    fn configured_endpoint_is_the_only_engine() {
        let found = locate(&Io::for_test(), Some("unix:///nowhere/docker.sock")).unwrap();
        assert_eq!(found, only(Endpoint::Unix("/nowhere/docker.sock".into()), "configuration"));
    }

    #[test]
    fn error_names_the_source_of_the_endpoint() {
        let error = locate(&Io::for_test(), Some("ssh://-oProxyCommand=id")).unwrap_err();
        assert!(error.starts_with("configuration "), "{error}");
    }

    #[test]
    fn https_endpoint_uses_the_files_of_the_docker_cli() {
        assert_eq!(tls_directory("https://db:2376", Some(Path::new("/home/a/.docker"))), Some("/home/a/.docker".into()));
        assert_eq!(tls_directory("unix:///run/docker.sock", Some(Path::new("/home/a/.docker"))), None);
    }
}
