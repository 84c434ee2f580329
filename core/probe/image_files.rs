//! What a container's image has: looked up from outside, through the root of its first process, without running anything in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::io::Root;
use super::{ProbeError, blocking};

/// The tools a health test can be made of, best first.
pub const TOOLS: &[&str] = &["curl", "wget", "bash", "nc", "busybox", "python3", "python", "node", "perl", "sh"];

/// What was found in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageFiles {
    /// Commands that were asked for and exist.
    pub present: Vec<String>,
    /// Commands that were asked for and do not.
    pub missing: Vec<String>,
    /// Tools of [`TOOLS`] that exist.
    pub tools: Vec<String>,
    /// /etc/hosts maps `localhost` to `::1`.
    pub localhost_is_v6: bool,
}

/// Looks `commands` up in the container whose first process is `pid`, with its own `PATH`.
pub async fn look(process: i32, path: &str, commands: Vec<String>) -> Result<ImageFiles, ProbeError> {
    let from = Root::name(process);
    let path = path.to_owned();
    blocking::run("files of the container", &from.clone(), Duration::from_secs(1), move |io| {
        // absolute links such as /bin/sh -> /bin/busybox stay inside
        let root = Root::of(io, process).map_err(|e| ProbeError::io("files of the container", &from, &e))?;
        let found = |command: &str| {
            if command.contains('/') {
                root.exists(command)
            } else {
                path.split(':').filter(|d| !d.is_empty()).any(|d| root.exists(&format!("{d}/{command}")))
            }
        };
        let (present, missing) = commands.into_iter().partition(|c| found(c));
        // unreadable hosts say nothing
        let hosts = root.bytes("/etc/hosts", 64 << 10).unwrap_or_default();
        Ok(ImageFiles {
            present,
            missing,
            tools: TOOLS.iter().filter(|t| found(t)).map(|t| (*t).to_owned()).collect(),
            localhost_is_v6: maps_localhost_to_v6(&String::from_utf8_lossy(&hosts)),
        })
    })
    .await?
}

pub(super) fn maps_localhost_to_v6(hosts: &str) -> bool {
    hosts.lines().map(|l| l.split('#').next().unwrap_or_default()).any(|l| {
        let mut words = l.split_whitespace();
        words.next() == Some("::1") && words.any(|w| w == "localhost")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_active_line_for_localhost_counts() {
        assert!(maps_localhost_to_v6("127.0.0.1 localhost\n::1\tlocalhost ip6-localhost\n"));
        assert!(!maps_localhost_to_v6("# ::1 localhost\n::1 ip6-localhost\n127.0.0.1 localhost\n"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn commands_are_found_as_the_process_would_find_them() {
        let own = std::process::id().cast_signed();
        let got = look(own, "/bin:/usr/bin", vec!["sh".into(), "no-such-command".into(), "/bin/sh".into()]).await;
        let got = got.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((got.present.join(" "), got.missing.join(" ")), ("sh /bin/sh".into(), "no-such-command".into()));
        assert!(got.tools.contains(&"sh".to_owned()));
    }
}
