//! Details of single processes: blocked writers, memory, zombies, replaced files, mounts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::probe::Io;

/// The pids of all processes.
pub(in crate::probe) fn all(io: &Io) -> std::io::Result<impl Iterator<Item = i32> + use<>> {
    Ok(io.read_dir("/proc")?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()))
}

/// The name of a process.
pub(in crate::probe) fn comm(io: &Io, pid: i32) -> Option<String> {
    Some(io.read_lossy(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// The command line of a process, or its title if it sets one; arguments are separated by NUL.
pub(in crate::probe) fn command_line(io: &Io, pid: i32) -> Option<String> {
    io.read_lossy(format!("/proc/{pid}/cmdline")).ok()
}

/// The command line without the trailing NUL bytes, for a process that sets its title: one text.
pub(in crate::probe) fn title(io: &Io, pid: i32) -> Option<String> {
    Some(command_line(io, pid)?.trim_end_matches('\0').to_owned())
}

/// Inodes of its open sockets; `None` if they are not readable by this user.
pub(in crate::probe) fn sockets(io: &Io, pid: i32) -> Option<HashSet<u64>> {
    sockets_among(io, pid, usize::MAX)
}

/// Inodes of the sockets among its first `n` descriptors.
pub(in crate::probe) fn sockets_among(io: &Io, pid: i32, n: usize) -> Option<HashSet<u64>> {
    let inode = |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    let mut inodes = HashSet::new();
    for descriptor in io.read_dir(format!("/proc/{pid}/fd")).ok()?.take(n).flatten() {
        match io.read_link(descriptor.path()) {
            Ok(link) => inodes.extend(inode(link)),
            // root in a container without CAP_SYS_PTRACE lists the descriptors of other users, but cannot read them
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return None,
            Err(_) => {}
        }
    }
    Some(inodes)
}

/// A thread that cannot write its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedWriter {
    /// Thread id.
    pub tid: i32,
    /// Command name.
    pub comm: String,
    /// Kernel function in which it sleeps.
    pub wchan: String,
    /// 1 or 2.
    pub fd: u8,
    /// Target of that descriptor, for example `pipe:[12345]`.
    pub pipe: String,
}

/// The first thread of `pid` that sleeps in a write to stdout or stderr because the pipe is full.
///
/// The output of a container is a pipe to its shim; if the pipe is not read, the next write blocks forever while the container
/// appears to be running (moby#31540). `wchan` is `pipe_write` up to Linux 6.13 and `anon_pipe_write` after; `syscall` shows the
/// number and first argument of the call (proc(5)); write(2) is 1 on x86-64 and 64 on arm64.
#[must_use]
pub fn blocked_on_output(io: &Io, pid: i64) -> Option<BlockedWriter> {
    let tasks = io.read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.filter_map(Result::ok).find_map(|task| blocked_task(io, &task.path()))
}

fn blocked_task(io: &Io, task: &Path) -> Option<BlockedWriter> {
    let read = |name: &str| io.read_lossy(task.join(name)).ok();
    let wchan = read("wchan")?;
    if !matches!(wchan.as_str(), "pipe_write" | "anon_pipe_write") {
        return None;
    }
    let fd = written_fd(&read("syscall")?)?;
    Some(BlockedWriter {
        tid: task.file_name()?.to_str()?.parse().ok()?,
        comm: read("comm")?.trim().to_owned(),
        wchan,
        fd,
        pipe: io.read_link(task.join(format!("fd/{fd}"))).ok()?.display().to_string(),
    })
}

/// The descriptor of a write(2) to stdout or stderr: `1 0x2 0x… …` is descriptor 2.
pub(in crate::probe) fn written_fd(syscall: &str) -> Option<u8> {
    let mut words = syscall.split_whitespace();
    let number: u32 = words.next()?.parse().ok()?;
    let write = if cfg!(target_arch = "x86_64") { 1 } else { 64 };
    match (number == write, words.next()?) {
        (true, "0x1") => Some(1),
        (true, "0x2") => Some(2),
        _ => None,
    }
}

/// A process and its memory usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Process id.
    pub pid: i32,
    /// Command name.
    pub comm: String,
    /// Resident memory in bytes.
    pub rss: u64,
}

/// The `n` processes of `pids` with the highest memory usage, largest first.
#[must_use]
pub fn largest(io: &Io, pids: &[i32], n: usize) -> Vec<MemoryUsage> {
    let mut holders: Vec<MemoryUsage> = pids.iter().filter_map(|pid| holder(io, *pid)).collect();
    holders.sort_by_key(|h| std::cmp::Reverse(h.rss));
    holders.truncate(n);
    holders
}

/// Anonymous memory of a process: neither file-backed nor shared, in bytes (`RssAnon`, Linux 4.5).
#[must_use]
pub fn anonymous(io: &Io, pid: i32) -> Option<u64> {
    status_bytes(&io.read_lossy(format!("/proc/{pid}/status")).ok()?, "RssAnon:")
}

fn holder(io: &Io, pid: i32) -> Option<MemoryUsage> {
    let text = io.read_lossy(format!("/proc/{pid}/status")).ok()?;
    Some(MemoryUsage { pid, comm: status_field(&text, "Name:")?.to_owned(), rss: status_bytes(&text, "VmRSS:")? })
}

/// A field of `/proc/<pid>/status`.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim)
}

/// A field in kB, as bytes.
pub(in crate::probe) fn status_bytes(status: &str, name: &str) -> Option<u64> {
    status_field(status, name)?.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Number of zombies among the child processes of `ancestor`.
#[must_use]
pub fn zombies_below(io: &Io, ancestor: i64) -> usize {
    let Ok(children) = io.read_lossy(format!("/proc/{ancestor}/task/{ancestor}/children")) else { return 0 };
    children
        .split_whitespace()
        .filter_map(|pid| io.read_lossy(format!("/proc/{pid}/stat")).ok())
        .filter(|stat| state_in(stat) == Some('Z'))
        .count()
}

/// The state letter of a `/proc/<pid>/stat` line; the command name in parentheses may contain any characters, including
/// parentheses.
pub(in crate::probe) fn state_in(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// A deleted file that a process still executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replaced {
    /// Its program.
    Program(String),
    /// A library it has loaded.
    Library(String),
}

/// The first deleted or replaced file that `pid` still executes, for example after an upgrade; `None` also if it is not readable
/// by this user.
#[must_use]
pub fn replaced(io: &Io, pid: i64) -> Option<Replaced> {
    let exe = io.read_link(format!("/proc/{pid}/exe")).ok()?.to_string_lossy().into_owned();
    if let Some(path) = exe.strip_suffix(" (deleted)") {
        return Some(Replaced::Program(path.to_owned()));
    }
    let maps = io.read_lossy(format!("/proc/{pid}/maps")).ok()?;
    maps.lines().find_map(deleted_library).map(Replaced::Library)
}

/// Parses `7f…-7f… r-xp 00000000 08:01 1234 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)`; only executable mappings count.
pub(in crate::probe) fn deleted_library(line: &str) -> Option<String> {
    let path = line.strip_suffix(" (deleted)")?;
    let mut fields = path.splitn(6, ' ');
    let executed = fields.nth(1)?.contains('x');
    let path = fields.nth(3)?.trim_start();
    (executed && path.contains(".so") && path.starts_with('/') && !path.starts_with("/dev/") && !path.starts_with("/memfd"))
        .then(|| path.to_owned())
}

/// A mount in the mount namespace of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParsedMount {
    /// Root of the mount in its filesystem; ends in `//deleted` if that file was unlinked or replaced.
    pub root: String,
    /// Mount point.
    pub mountpoint: String,
}

/// The mounts in the mount namespace of `pid`, with octal escapes resolved.
#[must_use]
pub fn mounts_of(io: &Io, pid: i64) -> Vec<ParsedMount> {
    let text = io.read_lossy(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(seen_mount).collect()
}

pub(in crate::probe) fn seen_mount(line: &str) -> Option<ParsedMount> {
    let mut fields = line.split(' ').skip(3);
    Some(ParsedMount { root: unescape(fields.next()?), mountpoint: unescape(fields.next()?) })
}

/// Resolves octal escapes of mountinfo: `\040` is a space (proc(5)).
pub(in crate::probe) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let digits = (bytes[i] == b'\\').then(|| text.get(i + 1..i + 4)).flatten();
        // from_str_radix() accepts a sign
        let code = digits.filter(|d| !d.starts_with('+')).and_then(|d| u8::from_str_radix(d, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            i += 4;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Child processes of a process.
#[must_use]
pub fn children_of(io: &Io, pid: i32) -> Vec<i32> {
    let children = io.read_lossy(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|c| c.parse().ok()).collect()
}

/// Process titles of the children of a process.
#[must_use]
pub fn children_titles(io: &Io, pid: i32) -> Vec<String> {
    children_of(io, pid).into_iter().filter_map(|child| title(io, child)).collect()
}

/// State of a process: `R`, `S`, `D`, `T`, …, or `None` after its exit.
#[must_use]
pub fn state_of(io: &Io, pid: i32) -> Option<char> {
    state_in(&io.read_lossy(format!("/proc/{pid}/stat")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_to_stdout_and_stderr_count() {
        if cfg!(target_arch = "x86_64") {
            assert_eq!(written_fd("1 0x2 0x7ffe 0x5 0x0 0x0 0x0 0x7ffe 0x7f00"), Some(2));
            assert_eq!(written_fd("1 0x5 0x7ffe 0x5"), None);
            assert_eq!(written_fd("0 0x1 0x7ffe 0x5"), None);
        }
        assert_eq!(written_fd("running"), None);
        assert_eq!(written_fd(""), None);
    }

    #[test]
    fn state_of_process_with_parentheses_in_its_name() {
        assert_eq!(state_in("12 (a) Z) S 1 2"), Some('S'));
        assert_eq!(state_in("12 (sh) Z 1"), Some('Z'));
        assert_eq!(state_in("garbage"), None);
    }

    #[test]
    fn only_executable_mappings_count_as_replaced() {
        let line =
            |mode: &str, path: &str| format!("7f00-7f10 {mode} 00000000 08:01 1234                       {path} (deleted)");
        let library = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
        assert_eq!(deleted_library(&line("r-xp", library)).as_deref(), Some(library));
        assert_eq!(deleted_library(&line("r--p", library)), None);
        assert_eq!(deleted_library(&line("rw-s", "/memfd:pulse")), None);
        assert_eq!(deleted_library(&line("r-xp", "/dev/zero")), None);
        assert_eq!(deleted_library("garbage (deleted)"), None);
    }

    #[test]
    fn replaced_bind_mount_in_mountinfo() {
        let line = r"175 170 8:1 /opt/my\040app/x.conf//deleted /etc/x.conf ro,relatime - ext4 /dev/sda1 rw";
        let seen = seen_mount(line);
        assert_eq!(seen.map(|s| (s.root, s.mountpoint)), Some(("/opt/my app/x.conf//deleted".into(), "/etc/x.conf".into())));
        assert_eq!(seen_mount("too short"), None);
    }
}
