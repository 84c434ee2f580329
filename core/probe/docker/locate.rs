//! Location of the container engine, configured or detected.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::connect::{Endpoint, candidates};
use crate::probe::{Io, environment};

/// An expected engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// Source of the endpoint: shown by `opsctl targets`.
    pub found_by: String,
}

/// Finds the engine: the configuration, then `DOCKER_HOST`, then the first well-known socket that exists, then the default socket
/// of an enabled `docker.service`. `None` if this host has no engine.
pub fn locate(io: &Io, configured: Option<&str>) -> Result<Option<Located>, String> {
    let named = |text: &str, found_by: &str| {
        Endpoint::parse(text)
            .map(|endpoint| Some(Located { endpoint, found_by: found_by.to_owned() }))
            .map_err(|e| format!("{found_by} {text:?}: {e}"))
    };
    if let Some(text) = configured {
        return named(text, "configuration");
    }
    if let Some(text) = environment("DOCKER_HOST").filter(|t| !t.is_empty()) {
        return named(&text, "DOCKER_HOST");
    }
    // sudo may keep the variable of the calling user, and the engine is the proof of which containers exist
    let own = |dir: &PathBuf| io.metadata(dir).is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw());
    let runtime_dir = environment("XDG_RUNTIME_DIR").map(PathBuf::from).filter(own);
    let found = candidates(runtime_dir.as_deref()).into_iter().find(|p| io.symlink_metadata(p).is_ok());
    if let Some(path) = found {
        return Ok(Some(Located { endpoint: Endpoint::Unix(path), found_by: "well-known socket".to_owned() }));
    }
    // an enabled unit with a missing socket is an outage, not a host without Docker
    let enabled = io.symlink_metadata("/etc/systemd/system/multi-user.target.wants/docker.service").is_ok();
    Ok(enabled.then(|| Located {
        endpoint: Endpoint::Unix("/var/run/docker.sock".into()),
        found_by: "docker.service is enabled".to_owned(),
    }))
}
