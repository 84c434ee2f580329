//! `kill -9` at every point of every action: a file action at every system call that changes something, a request to somebody else when it has
//! been sent. What is left is whole, and the next run looks instead of repeating.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use opsctl_core::model::{Action, FileIdentity, Plan};
use opsctl_core::probe::Redactor;
use opsctl_core::probe::docker::{Endpoint, connect};

use super::scripted::*;
use super::*;
use crate::audit::{Body, Ending, Journal, Receipt, in_flight, verify};
use crate::engine::Managers;

/// Why an action may be killed at any point.
#[derive(Debug, PartialEq, Eq)]
enum Safe {
    /// Files are replaced whole; `strace` kills it at every call below.
    Files,
    /// One request, done whole by whoever gets it or not at all; below with a container engine.
    Engine,
    /// The same, of systemd, a database or a program; in the lab with the real ones (`tests/it/live/killed.rs`).
    Others,
    /// One write or one call of the kernel.
    Kernel,
    /// Changes nothing.
    Reads,
}

/// Every arm, so that a new action has to say it.
fn safe(action: &Action) -> Safe {
    match action {
        Action::TruncateFile { .. }
        | Action::AddLine { .. }
        | Action::RemoveLine { .. }
        | Action::WriteFile { .. }
        | Action::RemoveFile { .. }
        | Action::RetireFile { .. } => Safe::Files,
        Action::StartContainer { .. }
        | Action::StopContainer { .. }
        | Action::RestartContainer { .. }
        | Action::PauseContainer { .. }
        | Action::UnpauseContainer { .. }
        | Action::SetRestartPolicy { .. }
        | Action::SetMemory { .. }
        | Action::PruneBuildCache
        | Action::PruneDanglingImages
        | Action::RemoveContainers { .. } => Safe::Engine,
        Action::StartUnit { .. }
        | Action::StopUnit { .. }
        | Action::RestartUnit { .. }
        | Action::ResetFailedUnit { .. }
        | Action::EnableUnit { .. }
        | Action::DisableUnit { .. }
        | Action::ReloadUnits
        | Action::AddRule { .. }
        | Action::RemoveRule { .. }
        | Action::RedisSave { .. }
        | Action::RedisSet { .. }
        | Action::PgTerminateIdle { .. }
        | Action::PgCancel { .. }
        | Action::PgDropSlot { .. }
        | Action::PgSetRole { .. }
        | Action::ReloadNginx { .. }
        | Action::ReloadPrometheus { .. }
        | Action::Run { .. }
        // a team's own program: the journal says that it was begun, and what it leaves half done its own check tells
        | Action::RunOwn { .. } => Safe::Others,
        Action::TruncateDeletedFd { .. } | Action::Renice { .. } | Action::SetSysctl { .. } => Safe::Kernel,
        Action::KeepEngineRules { .. } => Safe::Reads,
    }
}

/// System calls that change a file. What a test prints is written too, so `write` is not among them: before it stands `fallocate` or the call
/// that made the file, after it the one that brings it to disk.
const CHANGING: &str =
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,ftruncate,fallocate,fsync,fdatasync,fchmod,fchmodat,chmod,fchown";

/// A child that does what `OPSCTL_TEST_POINT` says.
fn child_command(how: &str, f: &Fixture, actions: &[Action]) -> Vec<(String, String)> {
    vec![
        ("OPSCTL_TEST_POINT".to_owned(), how.to_owned()),
        ("OPSCTL_TEST_STATE".to_owned(), f.state.display().to_string()),
        ("OPSCTL_TEST_ACTIONS".to_owned(), serde_json::to_string(actions).unwrap()),
    ]
}

const CHILD: [&str; 3] = ["--exact", "fix::tests::points::child", "--test-threads=1"];

/// Not a test: what the child does.
#[test]
fn child() {
    let Ok(how) = std::env::var("OPSCTL_TEST_POINT") else { return };
    let state = PathBuf::from(std::env::var("OPSCTL_TEST_STATE").unwrap());
    let actions: Vec<Action> = serde_json::from_str(&std::env::var("OPSCTL_TEST_ACTIONS").unwrap()).unwrap();
    if how == "journal" {
        Journal::at(&state).append(Body::new(crate::audit::Kind::Note, "second"), &Redactor::default()).unwrap();
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let docker = match how.strip_prefix("engine ") {
            Some(socket) => {
                connect(&Endpoint::parse(&format!("unix://{socket}")).unwrap(), Arc::default(), std::time::Duration::from_secs(3))
                    .await
                    .1
            }
            None => None,
        };
        let managers = Managers { docker, ..Managers::default() };
        let receipt = Receipt::of_test(1);
        apply::apply(&Permit::grant(&receipt, &actions, &managers, &state)).await.unwrap();
    });
}

/// One of the calls of the child: its name, and which of this name it is. A tracer counts each name for itself.
type Point = (String, usize);

/// Runs the child under a tracer that kills it at one of its changing calls. Whether it was killed, and the calls it made.
fn traced(point: Option<&Point>, env: &[(String, String)]) -> (bool, Vec<Point>) {
    let calls = tempfile::NamedTempFile::new().unwrap();
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o"]).arg(calls.path()).args(["-e", &format!("trace={CHANGING}")]);
    if let Some((call, nth)) = point {
        traced.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]);
    }
    traced.arg(std::env::current_exe().unwrap()).args(CHILD).envs(env.iter().cloned());
    let output = traced.output().unwrap();
    assert!(
        output.status.success() || output.status.signal() == Some(9),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (!output.status.success(), calls_of(&std::fs::read_to_string(calls.path()).unwrap()))
}

/// `1234  rename("a", "b") = 0`: each thread counts for itself too.
fn calls_of(log: &str) -> Vec<Point> {
    let mut counts = std::collections::HashMap::new();
    let begun = log.lines().filter_map(|l| l.split_once(' ').map(|(pid, rest)| (pid, rest.trim_start())));
    let named = begun.filter_map(|(pid, rest)| Some((pid, rest.split_once('(')?.0)));
    let named = named.filter(|(_, name)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    let mut points: Vec<Point> = Vec::new();
    for (pid, name) in named {
        let count = counts.entry((pid.to_owned(), name.to_owned())).or_insert(0);
        *count += 1;
        if !points.contains(&(name.to_owned(), *count)) {
            points.push((name.to_owned(), *count));
        }
    }
    points
}

/// Calls `run` without a kill, and then for each call it made.
fn at_every_point(mut run: impl FnMut(Option<&Point>) -> Vec<Point>) {
    let points = run(None);
    assert!(!points.is_empty(), "it makes changing calls");
    for point in &points {
        run(Some(point));
    }
}

fn tracer() -> bool {
    let there = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !there {
        assert!(std::env::var_os("OPSCTL_LAB").is_none_or(|v| v != "require"), "strace is required");
        eprintln!("left out: needs strace");
    }
    there
}

/// The journal holds, says what was in flight, and the next run looks once and repeats nothing.
fn next_run_looks(f: &mut Fixture, plan: &Plan) {
    let journal = Journal::at(&f.state);
    assert_eq!(verify(&journal.bytes().unwrap()).1, []);
    assert_eq!(in_flight(&journal.entries().unwrap()).len(), 1);
    f.engine.says(failing(plan));
    assert_eq!(f.fix(&offer(plan)), Exit::Unverified, "{}", f.said());
    assert!(f.said().contains("nothing was repeated"), "{}", f.said());
    let entries = f.journal();
    assert_eq!((entries.len(), entries[1].body.ending), (2, Some(Ending::Interrupted)));
    drop(Lock::take(&f.lock).unwrap());
}

fn identity(path: &Path) -> FileIdentity {
    let meta = std::fs::metadata(path).unwrap();
    FileIdentity { dev: meta.dev(), ino: meta.ino() }
}

/// What a folder holds, by name; what a killed run left of a file that never became one is not counted.
fn holds(folder: &Path) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(e.path()).unwrap()))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    all.sort();
    all
}

/// A file of opsctl's own.
const OURS: &str = "# written by opsctl\nx = 2\n";

/// What is done to a file that is there.
type Make = fn(String, FileIdentity) -> Action;

#[test]
fn a_file_is_the_old_one_or_the_new_one_wherever_it_is_killed() {
    if !tracer() {
        return;
    }
    let at = |dir: &Path| dir.join("file").display().to_string();
    // what is there before, what is done, what is there after it
    let cases: [(&str, Make, Option<&str>); 6] = [
        ("a\n", |path, _| Action::AddLine { path, line: "b".into() }, Some("a\nb\n")),
        ("a\nb\n", |path, _| Action::RemoveLine { path, line: "b".into() }, Some("a\n")),
        ("# written by opsctl\n", |path, _| Action::WriteFile { path, text: OURS.into(), executable: true }, Some(OURS)),
        (OURS, |path, _| Action::RemoveFile { path, text: OURS.into() }, None),
        ("[]\n", |path, _| Action::RetireFile { path, text: "[]\n".into() }, None),
        ("first\nlast\n", |path, identity| Action::TruncateFile { path, identity, keep_bytes: 5 }, Some("")),
    ];
    let kill = |before: &str, make: Make, after: Option<&str>| {
        at_every_point(|point| {
            let mut f = Fixture::new();
            let folder = f.dir.path().join("etc");
            std::fs::create_dir(&folder).unwrap();
            let path = folder.join("file");
            std::fs::write(&path, before).unwrap();
            let action = make(at(&folder), identity(&path));
            assert_eq!(safe(&action), Safe::Files);
            let plan = Plan { actions: vec![action.clone()], undo: vec![], ..f.plan() };
            f.append(Body::intent(&plan, "it is broken"));
            let (killed, calls) = traced(point, &child_command("files", &f, &plan.actions));
            let now = std::fs::read_to_string(&path).ok();
            let what = format!("{action} killed at {point:?}: {:?}", holds(&folder));
            assert!(now.as_deref() == Some(before) || now.as_deref() == after, "{what}");
            // what is taken away is somewhere else before it goes, whole
            let kept =
                if matches!(action, Action::TruncateFile { .. }) { holds(&f.state.join("backups")) } else { holds(&folder) };
            match &action {
                Action::RetireFile { .. } => assert!(kept.len() == 1 && kept[0].1 == before, "{what}"),
                Action::TruncateFile { .. } => {
                    assert!(kept.iter().all(|(_, text)| text == "last\n"), "{what}: {kept:?}");
                    assert!(now.as_deref() == Some(before) || kept.len() == 1, "{what}: {kept:?}");
                }
                _ => {}
            }
            next_run_looks(&mut f, &plan);
            assert_eq!(std::fs::read_to_string(&path).ok(), now, "{what}: the next run repeats nothing");
            assert!(killed || now.as_deref() == after, "{what}");
            // and then it can be done
            if killed && now.as_deref() == Some(before) {
                f.engine.says(failing(&plan)).says(healthy());
                assert_eq!(f.fix(&offer(&plan)), Exit::Done, "{what}: {}", f.said());
                assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), after, "{what}");
            }
            calls
        });
    };
    // one after the other: a child that is being made holds a copy of every lock until it runs its program
    for (before, make, after) in cases {
        kill(before, make, after);
    }
}

#[test]
fn a_journal_is_whole_or_torn_wherever_its_writer_is_killed() {
    if !tracer() {
        return;
    }
    at_every_point(|point| {
        let f = Fixture::new();
        f.append(Body::new(crate::audit::Kind::Note, "first"));
        let (killed, calls) = traced(point, &child_command("journal", &f, &[]));
        let bytes = Journal::at(&f.state).bytes().unwrap();
        assert!(verify(&bytes).1.iter().all(|fault| !fault.what.is_tampering()), "{point:?}");
        let known = f.journal().len();
        assert_eq!(f.append(Body::new(crate::audit::Kind::Note, "third")), known as u64 + 1, "it goes on");
        assert!(verify(&Journal::at(&f.state).bytes().unwrap()).1.iter().all(|fault| !fault.what.is_tampering()), "{point:?}");
        assert!(killed || known == 2, "{point:?}");
        calls
    });
}

const ID: &str = "feedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedface";

/// The first line of a request; its head and its body are read as far as they have come.
fn request(stream: &UnixStream) -> String {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    while lines.next().and_then(Result::ok).is_some_and(|l| !l.is_empty()) {}
    first
}

/// An engine that answers what is only looked at, and kills its client when it is told to do something.
fn kill_at_the_request(listener: &UnixListener, mut child: Child) -> Vec<String> {
    let mut told = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let asked = request(&stream);
        if asked.is_empty() {
            // it only looked whether somebody listens
            continue;
        }
        let body = if !asked.starts_with("GET ") {
            told.push(asked);
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        } else if asked.contains("/version") {
            r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_owned()
        } else if asked.contains("/containers/") {
            format!(
                r#"{{"Id":"{ID}","Name":"/web","State":{{"Status":"exited","Running":false}},"Config":{{}},"HostConfig":{{}}}}"#
            )
        } else {
            "OK".to_owned()
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nApi-Version: 1.41\r\n";
        let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
    }
    told
}

#[test]
fn what_was_asked_of_an_engine_is_not_asked_again() {
    let id = || ID.to_owned();
    let actions = [
        (Action::StartContainer { id: id() }, "start"),
        (Action::StopContainer { id: id(), timeout_s: 1 }, "stop"),
        (Action::RestartContainer { id: id(), timeout_s: 1 }, "restart"),
        (Action::PauseContainer { id: id() }, "pause"),
        (Action::UnpauseContainer { id: id() }, "unpause"),
        (Action::SetRestartPolicy { id: id(), policy: "no".into(), maximum_retry_count: 0 }, "update"),
        (Action::SetMemory { id: id(), memory: 1 << 26, memory_swap: -1 }, "update"),
        (Action::PruneBuildCache, "prune"),
        (Action::PruneDanglingImages, "prune"),
        (Action::RemoveContainers { ids: vec![id()] }, "DELETE"),
    ];
    for (action, word) in actions {
        assert_eq!(safe(&action), Safe::Engine);
        let mut f = Fixture::new();
        let plan = Plan { actions: vec![action.clone()], undo: vec![], ..f.plan() };
        f.append(Body::intent(&plan, "it is broken"));
        let socket = f.dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let how = format!("engine {}", socket.display());
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(CHILD).envs(child_command(&how, &f, &plan.actions)).stdout(Stdio::null()).stderr(Stdio::null());
        let told = kill_at_the_request(&listener, child.spawn().unwrap());
        assert!(told.len() == 1 && told[0].contains(word), "{action}: {told:?}");
        next_run_looks(&mut f, &plan);
    }
}
