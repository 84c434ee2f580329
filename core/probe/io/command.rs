//! Execution of programs with explicit arguments, a separate process group and a timeout. For information that only a program
//! provides, and for fixes that run a program.

#![allow(clippy::disallowed_methods, reason = "starts the programs of an Argv, and reads procfs of this process")]

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, Uid, kill_process, kill_process_group, prlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, Join};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::model::{FileIdentity, printable, quantity};
use crate::probe::io::executable;
use crate::probe::io::file::user_name;
use crate::probe::io::{Io, blocking};
use crate::probe::{ProbeError, environment, lag};

/// Time to wait for remaining output after a program has exited: a daemon it started may keep the pipe open forever.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// Limit of descendants; only a runaway program starts more.
const MAX_DESCENDANTS: usize = 10_000;

/// Size limit of captured output in bytes; the end is kept.
const MAX_OUTPUT_BYTES: usize = 256 << 10;

/// Size limit of the output of a program that is run for its output.
const MAX_FULL_OUTPUT_BYTES: usize = 32 << 20;

/// The limit of private memory for programs, if it differs from the one of opsctl.
static DATA_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Sets the limit of private memory (`RLIMIT_DATA`) for programs: the one that opsctl had before it limited itself.
pub fn give_data_limit(limit: Rlimit) {
    let _ = DATA_LIMIT.set(limit);
}

/// Kills the process group and descendants that have left it (`setsid`) when dropped, for example after a timeout.
struct ProcessGroup {
    leader: Option<Pid>,
    /// The leader has exited: its pid may be reused, so only members of the group are known to belong to it.
    exited: bool,
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(pid) = self.leader {
            // collected while their parents run: orphans cannot be attributed to them
            let remaining = if self.exited { Vec::new() } else { descendants(pid) };
            let _ = kill_process_group(pid, Signal::KILL);
            for pid in remaining {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Direct and indirect child processes; empty if the kernel does not list them (`CONFIG_PROC_CHILDREN`).
fn descendants(of: Pid) -> Vec<Pid> {
    let children = |of: Pid| {
        let of = of.as_raw_nonzero();
        let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().filter_map(Result::ok);
        let lists: String = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()).collect();
        lists.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
    };
    let mut all = children(of);
    let mut visited = 0;
    while let Some(one) = all.get(visited).copied().filter(|_| visited < MAX_DESCENDANTS) {
        all.extend(children(one));
        visited += 1;
    }
    all
}

/// Exit status of a program and at least the last 256 KiB of its output.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// The last line of its output, for an error message.
    #[must_use]
    pub fn last_line(&self) -> String {
        let output = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let last = output.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no output");
        printable(last.trim())
    }
}

/// A command line defined by opsctl. Text that was read from a process, a file or an engine cannot become its program or an
/// option: see [`Argv::operand`], and [`run_as`](crate::probe::io::run_as::run_as) for command lines defined by a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv {
    program: &'static str,
    words: Vec<String>,
}

/// Programs that fixes may run. An action is stored and read back, so its program is text.
const FIX_PROGRAMS: &[&str] = &[
    "certbot",
    "ip6tables",
    "ip6tables-legacy",
    "ip6tables-nft",
    "iptables",
    "iptables-legacy",
    "iptables-nft",
    "journalctl",
    "nft",
];

impl Argv {
    /// `program` with these arguments; it is searched in [`SAFE_PATH`].
    #[must_use]
    pub fn new(program: &'static str, words: &[&'static str]) -> Self {
        Self { program, words: words.iter().map(|w| (*w).to_owned()).collect() }
    }

    /// Appends a fixed argument, after an operand.
    #[must_use]
    pub fn option(mut self, word: &'static str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Appends a number or a duration.
    #[must_use]
    pub fn number(mut self, word: impl Into<u64>) -> Self {
        self.words.push(word.into().to_string());
        self
    }

    /// Appends an argument from an external source: a unit, a host name. The error states why it is rejected.
    pub fn operand(mut self, word: &str) -> Result<Self, String> {
        if word.is_empty() || word.starts_with('-') || word.chars().any(char::is_control) {
            return Err(format!("`{}` cannot be passed to {}", printable(word), self.program));
        }
        self.words.push(word.to_owned());
        Ok(self)
    }

    /// The command line of an action that the guard has permitted. The error names a program that no action may run.
    pub fn of_action(argv: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut words = argv.iter().map(AsRef::as_ref);
        let name = words.next().ok_or("there is nothing to run")?;
        let known = FIX_PROGRAMS.iter().find(|p| **p == name);
        let program = known.ok_or_else(|| format!("no fix runs `{}`", printable(name)))?;
        Ok(Self { program, words: words.map(str::to_owned).collect() })
    }

    /// The name of the program.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }
}

impl std::fmt::Display for Argv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.program)?;
        self.words.iter().try_for_each(|w| write!(f, " {w}"))
    }
}

/// Runs a command line (without a shell, in the C locale, without input) and waits at most `timeout`. The error states why it did
/// not complete.
pub async fn run(argv: &Argv, timeout: Duration) -> Result<CommandOutput, String> {
    run_limited(argv, timeout, MAX_OUTPUT_BYTES).await
}

/// [`run`] for a thread that may block. On a runtime and a thread of its own: the caller may have a runtime or none.
pub(super) fn run_blocking(_: &Io, argv: &Argv, timeout: Duration) -> Result<CommandOutput, String> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(run(argv, timeout))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("program".to_owned()).stack_size(1 << 20);
        let running = thread.spawn_scoped(scope, work).map_err(|e| e.to_string())?;
        running.join().unwrap_or_else(|_| Err(format!("internal error: the thread of {} ended", argv.program)))
    })
}

/// [`run`] with the complete output, up to at least 32 MiB.
pub async fn read(argv: &Argv, timeout: Duration) -> Result<CommandOutput, String> {
    run_limited(argv, timeout, MAX_FULL_OUTPUT_BYTES).await
}

/// Whether a program is installed.
pub async fn is_installed(name: &'static str) -> bool {
    blocking::run("a program", name, LOOKUP_TIMEOUT, move |_| which::which_in(name, Some(SAFE_PATH), "/").is_ok())
        .await
        .unwrap_or(false)
}

/// The search path for programs of site runbooks, regardless of `PATH`.
pub const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A resolved program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute path.
    pub path: String,
    /// Its device and inode.
    pub identity: FileIdentity,
}

/// Resolves a program by its absolute path, or by its name in [`SAFE_PATH`]. The error states why it cannot or must not be run.
pub fn program(name: &str) -> Result<Program, String> {
    executable::resolve(name)
}

/// The programs of a fix in argv form, as currently resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedPrograms {
    /// The program, or why it cannot be run.
    pub program: Result<Program, String>,
    /// The program that reverts the fix; `None` if it cannot be reverted.
    pub undo: Option<Result<Program, String>>,
    /// Why its working directory cannot be used.
    pub directory: Option<String>,
    /// The directory or the program that the user's group can write, for the plan. Programs that belong to another user are not
    /// run.
    pub open: Option<String>,
}

/// Time limit for resolving a program.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Resolves the programs of a fix, and checks that no other user can change them.
pub async fn find(argv: &[String], undo: &[String], cwd: Option<&str>) -> Result<ResolvedPrograms, ProbeError> {
    let (argv, undo, cwd) = (argv.to_vec(), undo.to_vec(), cwd.map(str::to_owned));
    let from = argv.first().cloned().unwrap_or_default();
    blocking::run("a program", &from, LOOKUP_TIMEOUT, move |io| {
        let mut found = ResolvedPrograms { program: Err(String::new()), undo: None, directory: None, open: None };
        match cwd.as_deref().map(|path| (path, std::fs::metadata(path))) {
            Some((path, Ok(meta))) if !meta.is_dir() => found.directory = Some(format!("{path} is not a directory")),
            Some((path, Err(e))) if e.kind() == ErrorKind::NotFound => found.directory = Some(format!("{path} does not exist")),
            Some((path, Err(e))) => found.directory = Some(format!("{path}: {e}")),
            _ => {}
        }
        // without the working directory only the programs themselves can be checked
        let resolved = |argv: &[String]| match found.directory {
            None => executable::vet(argv, cwd.as_deref()),
            Some(_) => argv.first().ok_or_else(|| "there is nothing to run".to_owned()).and_then(|name| program(name)),
        };
        found.program = resolved(&argv);
        found.undo = (!undo.is_empty()).then(|| resolved(&undo));
        let path = found.program.as_ref().ok().map(|p| p.path.clone());
        found.open = cwd.into_iter().chain(path).find_map(|path| {
            let meta = std::fs::metadata(&path).ok()?;
            // vetted files of root are not writable by others; those of an ordinary user often are by the user's group
            let trusted = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
            let writer = if trusted { "others".to_owned() } else { format!("user {}", user_name(io, meta.uid())) };
            (!trusted || meta.mode() & 0o022 != 0).then(|| format!("{writer} can write {path}"))
        });
        found
    })
    .await
}

/// Why a program of a site runbook did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunError {
    /// It could not be run, with the reason.
    NotRun(String),
    /// It was killed after this timeout, with its process group.
    Timeout(Duration),
}

/// Runs a program of a site runbook if it is still the file that was resolved: in `cwd`, with a minimal environment, otherwise
/// as [`run`]. If `read_only` is set, processes that remain in its group are killed when it exits; a fix may have started a
/// process that is to keep running.
///
/// The command line is checked again immediately before. Between the check and `execve` only root can replace the file: every
/// directory above it, its interpreter and its script belongs to root and is writable by root only.
pub async fn run_own(
    program: &Program,
    argv: &[String],
    cwd: Option<&str>,
    read_only: bool,
    timeout: Duration,
) -> Result<CommandOutput, RunError> {
    let (words, directory) = (argv.to_vec(), cwd.map(str::to_owned));
    let vetted = blocking::run("a program", &program.path, LOOKUP_TIMEOUT, move |io| {
        executable::vet(&words, directory.as_deref()).map(|program| (program, account_environment(io)))
    });
    let (vetted, variables) = vetted.await.map_err(|e| RunError::NotRun(e.to_string()))?.map_err(RunError::NotRun)?;
    if vetted != *program {
        return Err(RunError::NotRun(format!("{} was replaced by another file", program.path)));
    }
    let name = argv.first().map_or(program.path.as_str(), String::as_str);
    let mut command = Command::new(&program.path);
    command.arg0(name).args(argv.iter().skip(1)).current_dir(cwd.unwrap_or("/")).env_clear();
    command.env("PATH", SAFE_PATH).env("LC_ALL", "C").envs(variables);
    run_in_group(command, name, timeout, MAX_OUTPUT_BYTES, read_only, None).await
}

/// The home directory of this user; for root that of its account.
pub(in crate::probe) fn home_directory(io: &Io) -> Option<std::path::PathBuf> {
    let home = account_environment(io).into_iter().find(|(name, _)| *name == "HOME").map(|(_, path)| path);
    home.filter(|path| path.starts_with('/')).map(Into::into)
}

/// The variables for the user and the home directory. For root they are those of its account: a HOME preserved by `sudo` belongs
/// to another user, and interpreters read start files and modules from there.
fn account_environment(io: &Io) -> Vec<(&'static str, String)> {
    if !rustix::process::geteuid().is_root() {
        return ["HOME", "USER", "LOGNAME"].into_iter().filter_map(|name| Some((name, environment(name)?))).collect();
    }
    let accounts = io.read_lossy("/etc/passwd").unwrap_or_default();
    let account = accounts.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"0"));
    let field = |i: usize| account.as_ref().and_then(|f| f.get(i)).filter(|text| !text.is_empty()).map(ToString::to_string);
    let name = field(0).unwrap_or_else(|| "root".to_owned());
    vec![("HOME", field(5).unwrap_or_else(|| "/root".to_owned())), ("USER", name.clone()), ("LOGNAME", name)]
}

/// Variables that are passed to the programs of an [`Argv`]: certbot needs them to reach its authority and for the trusted
/// certificates.
const PASSED_VARIABLES: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

async fn run_limited(argv: &Argv, timeout: Duration, keep: usize) -> Result<CommandOutput, String> {
    let name = argv.program;
    let found = blocking::run("a program", name, LOOKUP_TIMEOUT, move |io| {
        which::which_in(name, Some(SAFE_PATH), "/").map_err(|_| format!("{name} is not installed"))?;
        Ok((executable::resolve(name)?, account_environment(io)))
    });
    let (program, variables) = found.await.map_err(|e| e.to_string()).flatten()?;
    let kept = PASSED_VARIABLES.iter().filter_map(|name| Some((*name, environment(name)?)));
    let mut command = Command::new(program.path);
    // the invoked name as argv[0], as a shell sets it: multi-call binaries depend on it
    command.arg0(name).args(&argv.words).current_dir("/").env_clear();
    command.env("PATH", SAFE_PATH).env("LC_ALL", "C").envs(variables).envs(kept);
    run_in_group(command, name, timeout, keep, false, None).await.map_err(|e| e.message(name))
}

impl RunError {
    /// A message for the program called `name`.
    #[must_use]
    pub fn message(self, name: &str) -> String {
        match self {
            Self::NotRun(why) => why,
            Self::Timeout(after) => {
                format!("{name} did not end within {}", quantity::duration(after.try_into().unwrap_or_default()))
            }
        }
    }
}

/// Called on the thread that starts a program, immediately before: the program inherits the state of the thread. Returns the user
/// that the program switches to by itself: a user may signal every process that has a thread of theirs.
type BeforeSpawn = Box<dyn FnOnce(&Io) -> std::io::Result<Option<Uid>> + Send>;

/// Starts a command after `before` and waits at most `timeout`; processes that remain in its group are killed.
pub(in crate::probe) async fn start(
    command: Command,
    name: &str,
    timeout: Duration,
    before: Option<BeforeSpawn>,
) -> Result<CommandOutput, RunError> {
    run_in_group(command, name, timeout, MAX_OUTPUT_BYTES, true, before).await
}

/// A running program with its input and output as the two directions of a connection. Killed with its group when dropped.
pub(in crate::probe) struct Conversation {
    /// Its output and its input.
    pub(in crate::probe) pipes: Join<ChildStdout, ChildStdin>,
    /// Its messages; `None` once they are taken.
    pub(in crate::probe) stderr: Option<ChildStderr>,
    // dropped before the child is reaped, so that its pid still belongs to it
    _group: ProcessGroup,
    _child: Child,
}

/// Starts a command line without a shell, in the C locale, for a conversation on its input and output. `variables` are added to
/// its environment. The error states why it could not be started.
pub(in crate::probe) async fn converse(
    argv: &Argv,
    variables: Vec<(&'static str, String)>,
    timeout: Duration,
) -> Result<Conversation, String> {
    let (name, words) = (argv.program, argv.words.clone());
    let runtime = tokio::runtime::Handle::current();
    let spawned = blocking::run("a program", name, timeout, move |io| {
        which::which_in(name, Some(SAFE_PATH), "/").map_err(|_| format!("{name} is not installed"))?;
        let mut command = Command::new(executable::resolve(name)?.path);
        command.arg0(name).args(words).current_dir("/").env_clear();
        command.env("PATH", SAFE_PATH).env("LC_ALL", "C").envs(account_environment(io)).envs(variables);
        lag::Priority::ordinary();
        new_session(&mut command, None);
        let _entered = runtime.enter();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|e| format!("starting {name}: {e}"))
    });
    let mut child = spawned.await.map_err(|e| e.to_string()).flatten()?;
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let group = ProcessGroup { leader, exited: false };
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), stderr) => {
            Ok(Conversation { pipes: tokio::io::join(stdout, stdin), stderr, _group: group, _child: child })
        }
        _ => Err(format!("{name} has no input or output")),
    }
}

/// Starts the program in a new session: it has no controlling terminal and a process group of its own. Then it switches to
/// `user`.
#[allow(unsafe_code, reason = "only two system calls run between fork(2) and execve(2)")]
fn new_session(command: &mut Command, user: Option<Uid>) {
    let begin = move || {
        rustix::process::setsid()?;
        if let Some(uid) = user {
            // clears the capabilities (capabilities(7), "Effect of user ID changes on capabilities")
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        Ok(())
    };
    // SAFETY: the closure neither allocates nor acquires a lock
    unsafe { command.pre_exec(begin) };
}

/// Runs a command in a new process group and waits at most `timeout`.
async fn run_in_group(
    mut command: Command,
    name: &str,
    timeout: Duration,
    keep: usize,
    kill_remaining: bool,
    before: Option<BeforeSpawn>,
) -> Result<CommandOutput, RunError> {
    let begun = Instant::now();
    let runtime = tokio::runtime::Handle::current();
    // spawning waits until the program file is read: on a hung file system forever
    let spawned = blocking::run("a program", name, timeout, move |io| {
        // opened before the root directory may change
        let null = io.open("/dev/null")?;
        lag::Priority::ordinary();
        let user = before.map(|before| before(io)).transpose()?.flatten();
        new_session(&mut command, user);
        let _entered = runtime.enter();
        command.stdin(null).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
    });
    let spawned = spawned.await.map_err(|e| match e {
        ProbeError::Timeout { .. } => RunError::Timeout(timeout),
        other => RunError::NotRun(other.to_string()),
    })?;
    let mut child = spawned.map_err(|e| RunError::NotRun(format!("starting {name}: {e}")))?;
    let timeout_left = timeout.saturating_sub(begun.elapsed());
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut group = ProcessGroup { leader, exited: false };
    if let (Some(pid), Some(limit)) = (leader, DATA_LIMIT.get()) {
        // an exited process needs no limit
        let _ = prlimit(Some(pid), Resource::Data, *limit);
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let reading = async { tokio::join!(drain(stdout, &mut out, keep), drain(stderr, &mut err, MAX_OUTPUT_BYTES)) };
        tokio::pin!(reading);
        let exited = async {
            tokio::select! {
                status = child.wait() => {
                    let _ = tokio::time::timeout(OUTPUT_GRACE, &mut reading).await;
                    status
                }
                _ = &mut reading => child.wait().await,
            }
        };
        tokio::time::timeout(timeout_left, exited).await
    };
    let status = status.map_err(|_| RunError::Timeout(timeout))?;
    let status = status.map_err(|e| RunError::NotRun(format!("waiting for {name}: {e}")))?;
    // reaped: its pid may be reused as soon as its process group is empty
    group.exited = true;
    if !kill_remaining {
        group.leader = None;
    }
    drop(group);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(CommandOutput { status, stdout: text(out), stderr: text(err) })
}

/// Reads to the end and keeps the last part: verbose output must not block the program or terminate it with SIGPIPE.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, keep: usize) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() > 2 * keep {
            kept.drain(..kept.len() - keep);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn argv(program: &'static str, words: &[&str]) -> Argv {
        Argv { program, words: words.iter().map(|w| (*w).to_owned()).collect() }
    }

    #[test]
    fn external_text_is_neither_program_nor_option() {
        let journal = || Argv::new("journalctl", &["--unit"]);
        assert_eq!(journal().operand("nginx.service").unwrap().to_string(), "journalctl --unit nginx.service");
        for word in ["--file=/etc/shadow", "-x", "", "a\nb"] {
            assert!(journal().operand(word).is_err(), "{word}");
        }
        assert!(Argv::of_action(&["sh", "-c", "id"]).is_err() && Argv::of_action(&["/tmp/nft", "x"]).is_err());
        assert_eq!(Argv::of_action(&["nft", "delete"]).unwrap().to_string(), "nft delete");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn programs_have_no_controlling_terminal() {
        let exited = run(&argv("sh", &["-c", "ps -o sid= -p $$; echo $$; true < /dev/tty"]), Duration::from_secs(60)).await;
        let CommandOutput { stdout, stderr, .. } = exited.unwrap();
        let mut lines = stdout.lines().map(str::trim);
        assert_eq!(lines.next(), lines.next(), "a session of its own: {stdout}");
        assert!(stderr.contains("/dev/tty"), "{stderr}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn programs_run_with_normal_priority() {
        if lag::Priority::keep_up().is_err() {
            // only root may raise the priority
            return;
        }
        let exited = run(&Argv::new("nice", &[]), Duration::from_secs(60)).await;
        lag::Priority::ordinary();
        assert_eq!(exited.unwrap().stdout, "0\n");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn arguments_are_not_interpreted_by_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b;$(id)");
        assert!(run(&argv("touch", &[path.to_str().unwrap()]), LONG).await.unwrap().status.success());
        assert!(path.exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn error_message_has_the_last_line_of_output() {
        let exited = run(&argv("ls", &["/no/such/path"]), LONG).await.unwrap();
        assert!(exited.last_line().starts_with("ls: cannot access"), "{exited:?}");
        assert_eq!(exited.status.code(), Some(2));
        assert_eq!(run(&argv("no-such-program-here", &[]), LONG).await.unwrap_err(), "no-such-program-here is not installed");
        let nothing: [&str; 0] = [];
        assert!(Argv::of_action(&nothing).is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn long_output_is_truncated_without_blocking() {
        let exited = run(&argv("seq", &["1", "300000"]), LONG).await.unwrap();
        assert!(exited.stdout.ends_with("300000\n") && exited.stdout.len() <= 2 * MAX_OUTPUT_BYTES + 4096);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn descendants_are_killed_after_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        // `setsid`: it leaves the group
        for left in ["sleep 1000", "setsid sh -c 'sleep 1000; true'"] {
            let script = format!("{left} & echo $! > {}; wait", pid_file.display());
            let error = run(&argv("sh", &["-c", &script]), Duration::from_millis(500)).await.unwrap_err();
            assert_eq!(error, "sh did not end within 0.5 s");
            wait_for_exit(&pid_file).await;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn custom_program_has_minimal_environment_and_leaves_no_process() {
        let sh = program("sh").unwrap();
        assert!(program("no-such-program").is_err() && program("/etc/passwd").is_err());
        let dir = tempfile::tempdir().unwrap();
        let words = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        let cwd = dir.path().to_str();
        let exited = run_own(&sh, &words("pwd; env | sort; sleep 1000 & echo $! > pid"), cwd, true, LONG).await.unwrap();
        assert!(exited.stdout.starts_with(cwd.unwrap()) && !exited.stdout.contains("CARGO"), "{}", exited.stdout);
        wait_for_exit(&dir.path().join("pid")).await;
        let late = run_own(&sh, &words("sleep 1000 & echo $! > pid; wait"), cwd, true, Duration::from_millis(300)).await;
        assert_eq!(late.unwrap_err(), RunError::Timeout(Duration::from_millis(300)));
        wait_for_exit(&dir.path().join("pid")).await;
    }

    /// Waits until the process with the pid in a file has exited.
    async fn wait_for_exit(pid_file: &std::path::Path) {
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let started = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            // the subreaper may not have reaped it yet
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the grandchild is still running");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn daemon_that_keeps_the_pipe_open_does_not_block() {
        let started = Instant::now();
        run(&argv("sh", &["-c", "setsid sleep 5 & exit 0"]), LONG).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
