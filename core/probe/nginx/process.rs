//! Processes of one nginx: the master with its arguments, and the workers.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::probe::Io;
use crate::probe::io::clock;
use crate::probe::io::stat::parent_and_start;
use crate::probe::kernel::tasks;
pub(super) use crate::probe::proc::process::title;
use crate::probe::proc::process::{children_of, state_of};

/// Command line options of an nginx.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// `-c`.
    pub(super) file: Option<String>,
    /// `-p`.
    pub(super) prefix: Option<String>,
    /// `-g`.
    pub(super) global: Option<String>,
}

/// A worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Process id on the host.
    pub pid: i32,
    /// Start time: that of its configuration.
    pub started: Timestamp,
    /// Whether the worker is shutting down and only finishes its open requests, with the previous configuration.
    pub leaving: bool,
    /// `R`, `S`, `D`, `T`.
    pub state: char,
}

/// Parses the process title of a master: `nginx: master process /usr/sbin/nginx -c /x -g daemon off;`. The words of one argument
/// are joined up to the next option.
pub(super) fn arguments(title: &str) -> Arguments {
    let words: Vec<&str> = title.split([' ', '\0']).filter(|w| !w.is_empty()).collect();
    let mut arguments = Arguments::default();
    let mut i = 0;
    while i < words.len() {
        let value = |from: usize| -> (String, usize) {
            let values: Vec<&str> =
                words[from..].iter().copied().take_while(|w| !matches!(*w, "-c" | "-p" | "-g" | "-e" | "-q")).collect();
            (values.join(" "), values.len())
        };
        let slot = match words[i] {
            "-c" => &mut arguments.file,
            "-p" => &mut arguments.prefix,
            "-g" => &mut arguments.global,
            _ => {
                i += 1;
                continue;
            }
        };
        let (text, count) = value(i + 1);
        *slot = Some(text).filter(|t| !t.is_empty());
        i += 1 + count;
    }
    arguments
}

/// Workers of a master, the oldest first. An nginx without a master (`master_process off`) is its own worker.
pub(super) fn workers(io: &Io, master: i32) -> Vec<Worker> {
    let boot = clock::boot_time();
    let worker = |pid: i32| {
        let title = title(io, pid)?;
        if pid != master && !title.starts_with("nginx: worker") {
            return None;
        }
        let (_, ticks) = parent_and_start(&io.read_lossy(format!("/proc/{pid}/stat")).ok()?)?;
        let since_boot = SignedDuration::from_millis(i64::try_from(tasks::milliseconds(ticks)).ok()?);
        Some(Worker {
            pid,
            started: boot.checked_add(since_boot).ok()?,
            leaving: title.contains("is shutting down"),
            state: state_of(io, pid)?,
        })
    };
    let mut workers: Vec<Worker> = children_of(io, master).into_iter().filter_map(worker).collect();
    if workers.is_empty() && title(io, master).is_some_and(|t| !t.starts_with("nginx: master")) {
        workers.extend(worker(master));
    }
    workers.sort_by_key(|w| w.started);
    workers
}

/// Number of open sockets and files of a process, and its limit of files.
#[must_use]
pub fn descriptors(io: &Io, pid: i32) -> Option<Descriptors> {
    let links = io.read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut open = Descriptors::default();
    for link in links.filter_map(|fd| io.read_link(fd.ok()?.path()).ok()) {
        open.files += 1;
        open.sockets += u64::from(link.to_str().is_some_and(|l| l.starts_with("socket:[")));
    }
    let limits = io.read_lossy(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    open.limit = line.split_whitespace().next()?.parse().ok();
    Some(open)
}

/// Open files of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// All open files.
    pub files: u64,
    /// Sockets among them.
    pub sockets: u64,
    /// Soft limit of open files, or `None` if unlimited.
    pub limit: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed_from_the_process_title() {
        let a = arguments("nginx: master process /usr/sbin/nginx -g daemon on; master_process on; -c /etc/my nginx.conf");
        assert_eq!(a.global.as_deref(), Some("daemon on; master_process on;"));
        assert_eq!(a.file.as_deref(), Some("/etc/my nginx.conf"));
        assert_eq!(arguments("nginx: master process nginx"), Arguments::default());
        assert_eq!(arguments("nginx\0-p\0/srv\0-c\0").prefix.as_deref(), Some("/srv"));
    }
}
