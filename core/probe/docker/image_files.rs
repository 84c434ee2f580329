//! Files in a container's image: read from outside through the root directory of its main process, without running a program in
//! it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::io::Root;
use crate::probe::{ProbeError, blocking};

/// Tools that a health check can use, in order of preference.
pub const TOOLS: &[&str] = &["curl", "wget", "bash", "nc", "busybox", "python3", "python", "node", "perl", "sh"];

/// Result of a lookup in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageFiles {
    /// Requested commands that exist.
    pub present: Vec<String>,
    /// Requested commands that do not exist.
    pub missing: Vec<String>,
    /// Tools of [`TOOLS`] that exist.
    pub tools: Vec<String>,
    /// /etc/hosts maps `localhost` to `::1`.
    pub localhost_is_v6: bool,
    /// `wget` is an applet of busybox.
    pub wget_is_busybox: bool,
}

/// Looks up `commands` in the container with the main process `pid`, with its own `PATH`.
pub async fn inspect(process: i32, path: &str, commands: Vec<String>) -> Result<ImageFiles, ProbeError> {
    let from = Root::name(process);
    let path = path.to_owned();
    blocking::run("files of the container", &from.clone(), Duration::from_secs(1), move |io| {
        // absolute links such as /bin/sh -> /bin/busybox are resolved inside the container
        let root = Root::of(io, process).map_err(|e| ProbeError::io("files of the container", &from, &e))?;
        let location = |command: &str| -> Option<String> {
            let directories = path.split(':').filter(|d| !d.is_empty());
            directories.map(|d| format!("{d}/{command}")).find(|file| root.exists(file))
        };
        let found = |command: &str| if command.contains('/') { root.exists(command) } else { location(command).is_some() };
        let (present, missing) = commands.into_iter().partition(|c| found(c));
        // an unreadable hosts file is treated as empty
        let hosts = root.bytes("/etc/hosts", 64 << 10).unwrap_or_default();
        Ok(ImageFiles {
            present,
            missing,
            tools: TOOLS.iter().filter(|t| found(t)).map(|t| (*t).to_owned()).collect(),
            localhost_is_v6: maps_localhost_to_v6(&String::from_utf8_lossy(&hosts)),
            wget_is_busybox: location("wget").and_then(|file| root.link(&file)).is_some_and(|target| target.ends_with("busybox")),
        })
    })
    .await?
}

pub(in crate::probe) fn maps_localhost_to_v6(hosts: &str) -> bool {
    hosts.lines().map(|l| l.split('#').next().unwrap_or_default()).any(|l| {
        let mut words = l.split_whitespace();
        words.next() == Some("::1") && words.any(|w| w == "localhost")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_in_hosts_file_are_ignored() {
        assert!(maps_localhost_to_v6("127.0.0.1 localhost\n::1\tlocalhost ip6-localhost\n"));
        assert!(!maps_localhost_to_v6("# ::1 localhost\n::1 ip6-localhost\n127.0.0.1 localhost\n"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn commands_are_searched_in_the_path_of_the_process() {
        let own = std::process::id().cast_signed();
        let got = inspect(own, "/bin:/usr/bin", vec!["sh".into(), "no-such-command".into(), "/bin/sh".into()]).await;
        let got = got.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((got.present.join(" "), got.missing.join(" ")), ("sh /bin/sh".into(), "no-such-command".into()));
        assert!(got.tools.contains(&"sh".to_owned()));
    }
}
