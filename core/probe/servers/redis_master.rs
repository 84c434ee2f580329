//! The master that a Redis replicates from by its configuration: any client that may use `REPLICAOF` can set another one.

use serde::{Deserialize, Serialize};

use super::REPLY_TIMEOUT;
use super::redis::{MAX_INCLUDES, directives, start_of, unquoted};
use crate::model::ServerRef;
use crate::probe::proc::files::{file_of, files_of};
use crate::probe::{Io, ProbeCx, ProbeError, blocking};

/// Where the configuration of a server names a master.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfiguredMaster {
    /// `/etc/redis/redis.conf`, `its start arguments`, `its environment`; `None` if none of them names this master.
    pub source: Option<String>,
    /// The configuration file was read, or there is none, and the start arguments are known.
    pub is_complete: bool,
}

/// Whether the configuration file, the start arguments or the environment of a server name `host` as its master.
pub async fn configured_master(
    cx: &ProbeCx,
    server: &ServerRef,
    config_file: &str,
    host: &str,
) -> Result<ConfiguredMaster, ProbeError> {
    let Some(process) = server.process else { return Ok(ConfiguredMaster::default()) };
    let (words, _) = start_of(cx, server).await;
    let of = |source: &str| ConfiguredMaster { source: Some(source.to_owned()), is_complete: true };
    if words.as_deref().is_some_and(|words| in_arguments(words, host)) {
        return Ok(of("its start arguments"));
    }
    if cx.environment_of(server).await.iter().any(|variable| names(variable, host)) {
        return Ok(of("its environment"));
    }
    let (file, host) = (config_file.to_owned(), host.to_owned());
    let read = move |io: &Io| {
        let mut found = Vec::new();
        (file.is_empty() || include(io, process.pid, &file, MAX_INCLUDES, &mut found)).then_some(found)
    };
    let masters = blocking::run("the configuration", &server.name, REPLY_TIMEOUT, read).await?;
    Ok(match masters {
        Some(masters) if masters.contains(&host) => of(config_file),
        masters => ConfiguredMaster { source: None, is_complete: masters.is_some() && words.is_some() },
    })
}

/// `--replicaof HOST PORT`, also as one word.
pub(super) fn in_arguments(words: &[String], host: &str) -> bool {
    let words: Vec<&str> = words.iter().flat_map(|w| w.split_whitespace()).collect();
    let is_option = |word: &str| matches!(word.trim_start_matches('-').to_ascii_lowercase().as_str(), "replicaof" | "slaveof");
    words.iter().enumerate().any(|(at, word)| is_option(word) && words.get(at + 1).is_some_and(|value| unquoted(value) == host))
}

/// Whether the value of a variable contains the host as a whole: `REDIS_MASTER_HOST=203.0.113.5`, `redis://203.0.113.5:6379`.
pub(super) fn names(variable: &str, host: &str) -> bool {
    let value = variable.split_once('=').map_or("", |(_, value)| value);
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    value.match_indices(host).any(|(at, _)| {
        let before = value[..at].chars().next_back();
        let after = value[at + host.len()..].chars().next();
        !host.is_empty() && !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// Reads the masters of a configuration file and its includes. False if the file is not readable.
fn include(io: &Io, pid: i32, path: &str, depth: usize, found: &mut Vec<String>) -> bool {
    let Some(text) = file_of(io, pid, path) else { return false };
    for (key, value) in directives(&text) {
        match key.to_ascii_lowercase().as_str() {
            "replicaof" | "slaveof" => found.extend(value.split_whitespace().next().map(unquoted)),
            "include" if depth > 0 && unquoted(value).starts_with('/') => {
                for file in files_of(io, pid, &unquoted(value)) {
                    include(io, pid, &file, depth - 1, found);
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn master_in_arguments_and_environment() {
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert!(in_arguments(&words("redis-server,--replicaof,203.0.113.5,6379"), "203.0.113.5"));
        assert!(in_arguments(&words("redis-server,--slaveof,203.0.113.5 6379"), "203.0.113.5"));
        assert!(!in_arguments(&words("redis-server,--bind,203.0.113.5"), "203.0.113.5"));
        assert!(names("REDIS_MASTER_HOST=203.0.113.5", "203.0.113.5"));
        assert!(names("URL=redis://u:x@203.0.113.5:6379/0", "203.0.113.5"));
        assert!(!names("URL=203.0.113.55", "203.0.113.5") && !names("URL=1203.0.113.5", "203.0.113.5") && !names("A=b", ""));
    }
}
