//! Contexts of the Docker CLI: `currentContext` in `config.json`, and one directory per context
//! (docker/cli, cli/context/store: `contexts/meta/SHA256-OF-NAME/meta.json`, `contexts/tls/SHA256-OF-NAME/docker/*.pem`).

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::connect::Endpoint;
use crate::model::quantity;
use crate::probe::io::trusted;

/// Size limit of `config.json` and `meta.json`, in bytes.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// The context that means "no context".
const DEFAULT: &str = "default";

/// Reads a file that this user owns; as root one that no other user can change. `None` if it does not exist.
fn json(path: &Path) -> Result<Option<Value>, String> {
    match trusted::read_to_string(path, MAX_JSON_BYTES) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|_| format!("{} is no valid JSON", path.display())),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

/// The name of the current context, or `None` for the default one.
pub(super) fn current(directory: &Path) -> Result<Option<String>, String> {
    let config = json(&directory.join("config.json"))?;
    let name = config.as_ref().and_then(|c| c.get("currentContext")?.as_str()).unwrap_or_default();
    Ok(is_named(name).then(|| name.to_owned()))
}

/// Whether a name is that of a stored context.
pub(super) fn is_named(name: &str) -> bool {
    !name.is_empty() && name != DEFAULT
}

/// The endpoint of a context.
pub(super) fn endpoint(directory: &Path, name: &str) -> Result<Endpoint, String> {
    let id = quantity::hex(&Sha256::digest(name));
    let meta = directory.join("contexts/meta").join(&id).join("meta.json");
    let meta = json(&meta)?.ok_or_else(|| format!("there is no such context in {}", directory.display()))?;
    let docker = meta.get("Endpoints").and_then(|e| e.get("docker"));
    let host = docker.and_then(|d| d.get("Host")?.as_str()).filter(|host| !host.is_empty());
    let host = host.ok_or("the context has no endpoint for docker")?;
    if docker.and_then(|d| d.get("SkipTLSVerify")?.as_bool()) == Some(true) {
        return Err("SkipTLSVerify is not supported: the engine's certificate is always verified".to_owned());
    }
    // its presence decides, as in the CLI
    let tls: PathBuf = directory.join("contexts/tls").join(&id).join("docker");
    let with_tls = match trusted::directory(&tls) {
        Ok(_) => true,
        Err(e) if e.is_absent() => false,
        Err(e) => return Err(e.to_string()),
    };
    Endpoint::parse_with(host, with_tls.then_some(tls))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    /// A directory `~/.docker` below the home of this user: as root, files in /tmp are not trusted.
    fn directory() -> tempfile::TempDir {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        tempfile::tempdir_in(home).unwrap()
    }

    fn store(directory: &Path, name: &str, host: &str) {
        let meta = directory.join("contexts/meta").join(quantity::hex(&Sha256::digest(name)));
        std::fs::create_dir_all(&meta).unwrap();
        let text =
            format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#);
        std::fs::write(meta.join("meta.json"), text).unwrap();
    }

    #[test]
    fn current_context_is_resolved() {
        let directory = directory();
        std::fs::write(directory.path().join("config.json"), r#"{"auths":{},"currentContext":"prod"}"#).unwrap();
        store(directory.path(), "prod", "ssh://deploy@db");
        assert_eq!(current(directory.path()).unwrap().as_deref(), Some("prod"));
        assert_eq!(endpoint(directory.path(), "prod").unwrap().to_string(), "ssh://deploy@db");
    }

    #[test]
    fn default_context_and_missing_configuration() {
        let directory = directory();
        assert_eq!(current(directory.path()).unwrap(), None);
        std::fs::write(directory.path().join("config.json"), r#"{"currentContext":"default"}"#).unwrap();
        assert_eq!(current(directory.path()).unwrap(), None);
    }

    #[test]
    fn unknown_context_is_an_error() {
        let directory = directory();
        assert!(endpoint(directory.path(), "gone").unwrap_err().contains("no such context"));
    }

    #[test]
    fn context_with_tls_files_uses_them() {
        let directory = directory();
        store(directory.path(), "tls", "tcp://db:2376");
        std::fs::create_dir_all(directory.path().join("contexts/tls").join(quantity::hex(&Sha256::digest("tls"))).join("docker"))
            .unwrap();
        assert_eq!(endpoint(directory.path(), "tls").unwrap().to_string(), "https://db:2376");
    }
}
