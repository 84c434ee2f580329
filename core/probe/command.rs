//! Running a program: its arguments as they are, its own process group, an end. For what no interface but a program gives, and for
//! the fixes that run one.

#![allow(clippy::disallowed_methods, reason = "starts the programs of an Argv, and reads procfs of this process")]

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, Uid, kill_process, kill_process_group, prlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::file::user_name;
use super::io::{Io, blocking};
use super::{ProbeError, environment, executable, lag};
use crate::model::{FileIdentity, printable, quantity};

/// How long its output is waited for after it has ended: a daemon it started may hold the pipe for ever.
const LINGER: Duration = Duration::from_millis(500);

/// More processes than one program starts that is not out of control.
const MOST_DESCENDANTS: usize = 10_000;

/// How much of what it prints is kept, in bytes: the end of it.
const KEEP: usize = 256 << 10;

/// The same for a program that is run for what it prints.
const KEEP_ALL: usize = 32 << 20;

/// The limit for private memory of programs, when it is not the one of opsctl.
static DATA_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Programs get this limit for private memory (`RLIMIT_DATA`): the one that opsctl had before it bounded itself.
pub fn give_data_limit(limit: Rlimit) {
    let _ = DATA_LIMIT.set(limit);
}

/// Kills the whole group, and whoever below it has left it (`setsid`), when the wait is given up, for whatever reason.
struct Group {
    leader: Option<Pid>,
    /// Its leader has ended: the number of it may be another's by now, and only who is in the group is known to be its.
    ended: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.leader {
            // while their parents live: later nobody knows whose they were
            let below = if self.ended { Vec::new() } else { descendants(pid) };
            let _ = kill_process_group(pid, Signal::KILL);
            for pid in below {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The processes that one has started, and those that these have; none where the kernel has no list of them (`CONFIG_PROC_CHILDREN`).
fn descendants(of: Pid) -> Vec<Pid> {
    let children = |of: Pid| {
        let of = of.as_raw_nonzero();
        let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().filter_map(Result::ok);
        let lists: String = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()).collect();
        lists.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
    };
    let mut all = children(of);
    let mut asked = 0;
    while let Some(one) = all.get(asked).copied().filter(|_| asked < MOST_DESCENDANTS) {
        all.extend(children(one));
        asked += 1;
    }
    all
}

/// How a program ended and the last 256 KiB and more of what it printed.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// The last thing it said, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
        printable(last.trim())
    }
}

/// A command line of opsctl's own. Text that was read from a process, a file or an engine cannot become the program or an option of it:
/// see [`Argv::operand`], and [`run_as`](super::io::run_as) for command lines that a process chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv {
    program: &'static str,
    words: Vec<String>,
}

/// Programs that fixes run. An action is stored and read back, so that its program is text.
const PROGRAMS_OF_FIXES: &[&str] = &[
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
    /// `program` with these words; it is searched in [`SAFE_PATH`].
    #[must_use]
    pub fn new(program: &'static str, words: &[&'static str]) -> Self {
        Self { program, words: words.iter().map(|w| (*w).to_owned()).collect() }
    }

    /// One word more of our own, after an operand.
    #[must_use]
    pub fn option(mut self, word: &'static str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// One word more: a number or a time of ours.
    #[must_use]
    pub fn number(mut self, word: impl Into<u64>) -> Self {
        self.words.push(word.into().to_string());
        self
    }

    /// One word more, which may be foreign text: a unit, a host name. The error says why it cannot be one.
    pub fn operand(mut self, word: &str) -> Result<Self, String> {
        if word.is_empty() || word.starts_with('-') || word.chars().any(char::is_control) {
            return Err(format!("`{}` cannot be passed to {}", printable(word), self.program));
        }
        self.words.push(word.to_owned());
        Ok(self)
    }

    /// The command line of an action that the guard has permitted. The error names a program that no action runs.
    pub fn of_action(argv: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut words = argv.iter().map(AsRef::as_ref);
        let name = words.next().ok_or("there is nothing to run")?;
        let known = PROGRAMS_OF_FIXES.iter().find(|p| **p == name);
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

/// Runs a command line (never through a shell, in the C locale, without input) and waits at most `timeout`. The error says why it did
/// not end.
pub async fn run(argv: &Argv, timeout: Duration) -> Result<Ended, String> {
    run_keeping(argv, timeout, KEEP).await
}

/// [`run`] for a program whose whole output is wanted, 32 MiB and more of it.
pub async fn read(argv: &Argv, timeout: Duration) -> Result<Ended, String> {
    run_keeping(argv, timeout, KEEP_ALL).await
}

/// Whether a program of ours is installed.
pub async fn is_installed(name: &'static str) -> bool {
    blocking::run("a program", name, LOOK, move |_| which::which_in(name, Some(SAFE_PATH), "/").is_ok()).await.unwrap_or(false)
}

/// Where the programs of a team's own runbooks are looked for, whatever `PATH` says.
pub const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute path.
    pub path: String,
    /// Which file that is.
    pub identity: FileIdentity,
}

/// A program by its absolute path, or by its name in [`SAFE_PATH`]. The error says why it cannot or must not be run.
pub fn program(name: &str) -> Result<Program, String> {
    executable::resolve(name)
}

/// What a fix in argv form would run, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The program; why there is none.
    pub program: Result<Program, String>,
    /// What takes it back; none when nothing does.
    pub undo: Option<Result<Program, String>>,
    /// Why it cannot be run in its folder.
    pub folder: Option<String>,
    /// The directory or the program that the user's group can write, for the plan; what belongs to another user is not run at all.
    pub open: Option<String>,
}

/// How long looking at a program may take.
const LOOK: Duration = Duration::from_secs(2);

/// Resolves what would be run, and checks that no other user can change it.
pub async fn find(argv: &[String], undo: &[String], cwd: Option<&str>) -> Result<Found, ProbeError> {
    let (argv, undo, cwd) = (argv.to_vec(), undo.to_vec(), cwd.map(str::to_owned));
    let from = argv.first().cloned().unwrap_or_default();
    blocking::run("a program", &from, LOOK, move |io| {
        let mut found = Found { program: Err(String::new()), undo: None, folder: None, open: None };
        match cwd.as_deref().map(|folder| (folder, std::fs::metadata(folder))) {
            Some((folder, Ok(meta))) if !meta.is_dir() => found.folder = Some(format!("{folder} is no folder")),
            Some((folder, Err(e))) if e.kind() == ErrorKind::NotFound => found.folder = Some(format!("{folder} does not exist")),
            Some((folder, Err(e))) => found.folder = Some(format!("{folder}: {e}")),
            _ => {}
        }
        // without its directory only the programs themselves can be checked
        let resolved = |argv: &[String]| match found.folder {
            None => executable::vet(argv, cwd.as_deref()),
            Some(_) => argv.first().ok_or_else(|| "there is nothing to run".to_owned()).and_then(|name| program(name)),
        };
        found.program = resolved(&argv);
        found.undo = (!undo.is_empty()).then(|| resolved(&undo));
        let path = found.program.as_ref().ok().map(|p| p.path.clone());
        found.open = cwd.into_iter().chain(path).find_map(|place| {
            let meta = std::fs::metadata(&place).ok()?;
            // of root's nothing is left that others can write; an ordinary user's group often can
            let trusted = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
            let who = if trusted { "others".to_owned() } else { format!("user {}", user_name(io, meta.uid())) };
            (!trusted || meta.mode() & 0o022 != 0).then(|| format!("{who} can write {place}"))
        });
        found
    })
    .await
}

/// Why a program of a team's own has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotEnded {
    /// It could not be run; why.
    NotRun(String),
    /// It was killed after this long, with everything in its group.
    Timeout(Duration),
}

/// Runs a program of a team's own runbook, if it is still the file that was found: in `cwd`, with a small environment, as [`run`]
/// otherwise. Of one that only looks, what it leaves running in its group is killed when it ends; a fix may have started what is to stay.
///
/// The command line is checked again right before. Between that and `execve` only root can exchange the file: every directory above
/// it, above its interpreter and above its script is root's alone.
pub async fn run_own(
    program: &Program,
    argv: &[String],
    cwd: Option<&str>,
    looks: bool,
    timeout: Duration,
) -> Result<Ended, NotEnded> {
    let (words, folder) = (argv.to_vec(), cwd.map(str::to_owned));
    let vetted = blocking::run("a program", &program.path, LOOK, move |io| {
        executable::vet(&words, folder.as_deref()).map(|program| (program, person(io)))
    });
    let (vetted, person) = vetted.await.map_err(|e| NotEnded::NotRun(e.to_string()))?.map_err(NotEnded::NotRun)?;
    if vetted != *program {
        return Err(NotEnded::NotRun(format!("{} is another file now", program.path)));
    }
    let name = argv.first().map_or(program.path.as_str(), String::as_str);
    let mut command = Command::new(&program.path);
    command.arg0(name).args(argv.iter().skip(1)).current_dir(cwd.unwrap_or("/")).env_clear();
    command.env("PATH", SAFE_PATH).env("LC_ALL", "C").envs(person);
    in_group(command, name, timeout, KEEP, looks, None).await
}

/// The variables that name the user and the home directory. Root's are those of its account: a HOME that `sudo` kept is another
/// user's, and interpreters take start files and modules from there.
fn person(io: &Io) -> Vec<(&'static str, String)> {
    if !rustix::process::geteuid().is_root() {
        return ["HOME", "USER", "LOGNAME"].into_iter().filter_map(|name| Some((name, environment(name)?))).collect();
    }
    let accounts = io.read_lossy("/etc/passwd").unwrap_or_default();
    let account = accounts.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"0"));
    let field = |i: usize| account.as_ref().and_then(|f| f.get(i)).filter(|text| !text.is_empty()).map(ToString::to_string);
    let name = field(0).unwrap_or_else(|| "root".to_owned());
    vec![("HOME", field(5).unwrap_or_else(|| "/root".to_owned())), ("USER", name.clone()), ("LOGNAME", name)]
}

/// Variables that the programs of an [`Argv`] keep: how certbot reaches its authority, and which certificates it trusts.
const KEPT: &[&str] = &[
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

async fn run_keeping(argv: &Argv, timeout: Duration, keep: usize) -> Result<Ended, String> {
    let name = argv.program;
    let found = blocking::run("a program", name, LOOK, move |io| {
        which::which_in(name, Some(SAFE_PATH), "/").map_err(|_| format!("{name} is not installed"))?;
        Ok((executable::resolve(name)?, person(io)))
    });
    let (program, person) = found.await.map_err(|e| e.to_string()).flatten()?;
    let kept = KEPT.iter().filter_map(|name| Some((*name, environment(name)?)));
    let mut command = Command::new(program.path);
    // its own name, as a shell would give it: some programs are many under several names
    command.arg0(name).args(&argv.words).current_dir("/").env_clear();
    command.env("PATH", SAFE_PATH).env("LC_ALL", "C").envs(person).envs(kept);
    in_group(command, name, timeout, keep, false, None).await.map_err(|e| e.words(name))
}

impl NotEnded {
    /// In words, for the program called `name`.
    #[must_use]
    pub fn words(self, name: &str) -> String {
        match self {
            Self::NotRun(why) => why,
            Self::Timeout(after) => {
                format!("{name} did not end within {}", quantity::duration(after.try_into().unwrap_or_default()))
            }
        }
    }
}

/// Called on the thread that starts a program, just before: the program inherits what the thread has become. Returns the user that the
/// program becomes by itself: a user may signal every process that has a thread of theirs.
type Before = Box<dyn FnOnce(&Io) -> std::io::Result<Option<Uid>> + Send>;

/// Starts a command after `before` and waits at most `timeout`; what it leaves running is killed.
pub(super) async fn start(command: Command, name: &str, timeout: Duration, before: Option<Before>) -> Result<Ended, NotEnded> {
    in_group(command, name, timeout, KEEP, true, before).await
}

/// The program begins a session: it has no terminal to write to or to type into, and a process group of its own. Then it becomes `user`.
#[allow(unsafe_code, reason = "between fork(2) and execve(2) are only the two system calls")]
fn own_session(command: &mut Command, user: Option<Uid>) {
    let begin = move || {
        rustix::process::setsid()?;
        if let Some(uid) = user {
            // clears the capabilities (capabilities(7), "Effect of user ID changes on capabilities")
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        Ok(())
    };
    // SAFETY: the closure neither allocates nor takes a lock
    unsafe { command.pre_exec(begin) };
}

/// Runs a command in a process group of its own and waits at most `timeout`.
async fn in_group(
    mut command: Command,
    name: &str,
    timeout: Duration,
    keep: usize,
    tidy: bool,
    before: Option<Before>,
) -> Result<Ended, NotEnded> {
    let begun = Instant::now();
    let runtime = tokio::runtime::Handle::current();
    // starting waits until the program file is read: on a file system that hangs for ever
    let spawned = blocking::run("a program", name, timeout, move |io| {
        // opened before the root may become another one
        let null = io.open("/dev/null")?;
        lag::Priority::ordinary();
        let user = before.map(|before| before(io)).transpose()?.flatten();
        own_session(&mut command, user);
        let _entered = runtime.enter();
        command.stdin(null).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
    });
    let spawned = spawned.await.map_err(|e| match e {
        ProbeError::Timeout { .. } => NotEnded::Timeout(timeout),
        other => NotEnded::NotRun(other.to_string()),
    })?;
    let mut child = spawned.map_err(|e| NotEnded::NotRun(format!("starting {name}: {e}")))?;
    let timeout_left = timeout.saturating_sub(begun.elapsed());
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut group = Group { leader, ended: false };
    if let (Some(pid), Some(limit)) = (leader, DATA_LIMIT.get()) {
        // one that has ended already needs none
        let _ = prlimit(Some(pid), Resource::Data, *limit);
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let reading = async { tokio::join!(drain(stdout, &mut out, keep), drain(stderr, &mut err, KEEP)) };
        tokio::pin!(reading);
        let ended = async {
            tokio::select! {
                status = child.wait() => {
                    let _ = tokio::time::timeout(LINGER, &mut reading).await;
                    status
                }
                _ = &mut reading => child.wait().await,
            }
        };
        tokio::time::timeout(timeout_left, ended).await
    };
    let status = status.map_err(|_| NotEnded::Timeout(timeout))?;
    let status = status.map_err(|e| NotEnded::NotRun(format!("waiting for {name}: {e}")))?;
    // reaped: its number may soon be another's, unless somebody in its group keeps it taken
    group.ended = true;
    if !tidy {
        group.leader = None;
    }
    drop(group);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ended { status, stdout: text(out), stderr: text(err) })
}

/// Reads to the end and keeps the last part: a program must not block, or die of a closed pipe half-way, because it talks much.
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
    fn foreign_text_is_neither_program_nor_option() {
        let journal = || Argv::new("journalctl", &["--unit"]);
        assert_eq!(journal().operand("nginx.service").unwrap().to_string(), "journalctl --unit nginx.service");
        for word in ["--file=/etc/shadow", "-x", "", "a\nb"] {
            assert!(journal().operand(word).is_err(), "{word}");
        }
        assert!(Argv::of_action(&["sh", "-c", "id"]).is_err() && Argv::of_action(&["/tmp/nft", "x"]).is_err());
        assert_eq!(Argv::of_action(&["nft", "delete"]).unwrap().to_string(), "nft delete");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn programs_have_no_terminal_of_the_caller() {
        let ended = run(&argv("sh", &["-c", "ps -o sid= -p $$; echo $$; true < /dev/tty"]), Duration::from_secs(60)).await;
        let Ended { stdout, stderr, .. } = ended.unwrap();
        let mut lines = stdout.lines().map(str::trim);
        assert_eq!(lines.next(), lines.next(), "its own session: {stdout}");
        assert!(stderr.contains("/dev/tty"), "{stderr}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn programs_do_not_have_the_raised_priority_of_a_run() {
        if lag::Priority::keep_up().is_err() {
            // only root may raise it
            return;
        }
        let ended = run(&Argv::new("nice", &[]), Duration::from_secs(60)).await;
        lag::Priority::ordinary();
        assert_eq!(ended.unwrap().stdout, "0\n");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn arguments_are_not_read_by_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b;$(id)");
        assert!(run(&argv("touch", &[path.to_str().unwrap()]), LONG).await.unwrap().status.success());
        assert!(path.exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_it_said_last_is_known() {
        let ended = run(&argv("ls", &["/no/such/place"]), LONG).await.unwrap();
        assert!(ended.last_words().starts_with("ls: cannot access"), "{ended:?}");
        assert_eq!(ended.status.code(), Some(2));
        assert_eq!(run(&argv("no-such-program-here", &[]), LONG).await.unwrap_err(), "no-such-program-here is not installed");
        let nothing: [&str; 0] = [];
        assert!(Argv::of_action(&nothing).is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn much_output_neither_blocks_nor_grows() {
        let ended = run(&argv("seq", &["1", "300000"]), LONG).await.unwrap();
        assert!(ended.stdout.ends_with("300000\n") && ended.stdout.len() <= 2 * KEEP + 4096);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_whole_group_is_killed_at_the_end_of_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        // `setsid`: it leaves the group
        for left in ["sleep 1000", "setsid sh -c 'sleep 1000; true'"] {
            let script = format!("{left} & echo $! > {}; wait", pid_file.display());
            let error = run(&argv("sh", &["-c", &script]), Duration::from_millis(500)).await.unwrap_err();
            assert_eq!(error, "sh did not end within 0.5 s");
            gone(&pid_file).await;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_of_a_team_has_a_small_environment_and_leaves_nothing() {
        let sh = program("sh").unwrap();
        assert!(program("no-such-program").is_err() && program("/etc/passwd").is_err());
        let dir = tempfile::tempdir().unwrap();
        let words = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        let cwd = dir.path().to_str();
        let ended = run_own(&sh, &words("pwd; env | sort; sleep 1000 & echo $! > pid"), cwd, true, LONG).await.unwrap();
        assert!(ended.stdout.starts_with(cwd.unwrap()) && !ended.stdout.contains("CARGO"), "{}", ended.stdout);
        gone(&dir.path().join("pid")).await;
        let late = run_own(&sh, &words("sleep 1000 & echo $! > pid; wait"), cwd, true, Duration::from_millis(300)).await;
        assert_eq!(late.unwrap_err(), NotEnded::Timeout(Duration::from_millis(300)));
        gone(&dir.path().join("pid")).await;
    }

    /// Waits until the process whose number is in a file has gone.
    async fn gone(pid_file: &std::path::Path) {
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let started = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            // whoever adopts it may not have reaped it yet
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the grandchild lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_keeps_the_pipe_does_not_hold_us() {
        let started = Instant::now();
        run(&argv("sh", &["-c", "setsid sleep 5 & exit 0"]), LONG).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
