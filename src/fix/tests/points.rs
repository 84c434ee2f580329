//! `kill -9` at every point of every action: file actions at every system call that changes a file, requests when they have been
//! sent. The result is consistent, and the next run checks instead of repeating.

use std::time::Duration;

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

/// Reason why an action may be killed at any point.
#[derive(Debug, PartialEq, Eq)]
enum Safe {
    /// Files are replaced atomically; `strace` kills at every call below.
    Files,
    /// One request, performed completely by the container engine or not at all; tested below with a fake engine.
    Engine,
    /// The same for systemd, a database or a program; tested with the real ones (`tests/it/live/killed.rs`).
    Others,
    /// One write or one system call.
    Kernel,
    /// Changes nothing.
    Reads,
}

/// Exhaustive, so that a new action must be classified.
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
        // a custom program: the journal records its start, and its own check reports a half-done state
        | Action::RunOwn { .. } => Safe::Others,
        Action::TruncateDeletedFd { .. } | Action::Renice { .. } | Action::SetSysctl { .. } => Safe::Kernel,
        Action::KeepEngineRules { .. } => Safe::Reads,
    }
}

/// System calls that change a file. The output of a test is written too, so `write` is not among them: it follows `fallocate` or
/// the call that created the file, and precedes the call that syncs it.
const CHANGING: &str =
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,ftruncate,fallocate,fsync,fdatasync,fchmod,fchmodat,chmod,fchown";

/// A child that runs as `OPSCTL_TEST_POINT` specifies.
fn child_command(how: &str, f: &Fixture, actions: &[Action]) -> Vec<(String, String)> {
    vec![
        ("OPSCTL_TEST_POINT".to_owned(), how.to_owned()),
        ("OPSCTL_TEST_STATE".to_owned(), f.state.display().to_string()),
        ("OPSCTL_TEST_ACTIONS".to_owned(), serde_json::to_string(actions).unwrap()),
    ]
}

const CHILD: [&str; 3] = ["--exact", "fix::tests::points::child", "--test-threads=1"];

/// Not a test: entry point of the child.
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
                connect(&Endpoint::parse(&format!("unix://{socket}")).unwrap(), Arc::default(), Duration::from_secs(3)).await.1
            }
            None => None,
        };
        let managers = Managers { docker, ..Managers::default() };
        let receipt = Receipt::of_test(1);
        apply::apply(&Permit::grant(&receipt, &actions, &managers, &state)).await.unwrap();
    });
}

/// A system call of the child: its name, and its index among calls of this name. A tracer counts each name separately.
type Point = (String, usize);

/// Runs the child under a tracer that kills it at one of its changing calls. Returns whether it was killed, and its calls.
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

/// `1234  rename("a", "b") = 0`: calls are also counted per thread.
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

/// Calls `run` without a kill, and then once for each call it made.
fn at_every_point(mut run: impl FnMut(Option<&Point>) -> Vec<Point>) {
    let points = run(None);
    assert!(!points.is_empty(), "the child makes changing calls");
    for point in &points {
        run(Some(point));
    }
}

fn tracer() -> bool {
    let there = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !there {
        assert!(std::env::var_os("OPSCTL_LAB").is_none_or(|v| v != "require"), "strace is required");
        eprintln!("skipped: requires strace");
    }
    there
}

/// The journal is valid and has one interrupted fix, and the next run checks once and repeats nothing.
fn assert_next_run_checks(f: &mut Fixture, plan: &Plan) {
    let journal = Journal::at(&f.state);
    assert_eq!(verify(&journal.bytes().unwrap()).1, []);
    assert_eq!(in_flight(&journal.entries().unwrap()).len(), 1);
    f.engine.returns(failing(plan));
    assert_eq!(f.fix(&offer(plan)), Exit::Unverified, "{}", f.output());
    assert!(f.output().contains("nothing was repeated"), "{}", f.output());
    let entries = f.journal();
    assert_eq!((entries.len(), entries[1].body.ending), (2, Some(Ending::Interrupted)));
    drop(Lock::take(&f.lock).unwrap());
}

fn identity(path: &Path) -> FileIdentity {
    let meta = std::fs::metadata(path).unwrap();
    FileIdentity { dev: meta.dev(), ino: meta.ino() }
}

/// Contents of a directory by name; hidden temporary files of a killed run are not counted.
fn contents(directory: &Path) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(e.path()).unwrap()))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    all.sort();
    all
}

/// A file written by opsctl.
const WRITTEN_FILE: &str = "# written by opsctl\nx = 2\n";

/// Creates the action on an existing file.
type Make = fn(String, FileIdentity) -> Action;

#[test]
fn killed_file_action_leaves_the_old_or_the_new_file() {
    if !tracer() {
        return;
    }
    let at = |dir: &Path| dir.join("file").display().to_string();
    // content before, action, content after
    let cases: [(&str, Make, Option<&str>); 6] = [
        ("a\n", |path, _| Action::AddLine { path, line: "b".into() }, Some("a\nb\n")),
        ("a\nb\n", |path, _| Action::RemoveLine { path, line: "b".into() }, Some("a\n")),
        (
            "# written by opsctl\n",
            |path, _| Action::WriteFile { path, text: WRITTEN_FILE.into(), executable: true },
            Some(WRITTEN_FILE),
        ),
        (WRITTEN_FILE, |path, _| Action::RemoveFile { path, text: WRITTEN_FILE.into() }, None),
        ("[]\n", |path, _| Action::RetireFile { path, text: "[]\n".into() }, None),
        ("first\nlast\n", |path, identity| Action::TruncateFile { path, identity, keep_bytes: 5 }, Some("")),
    ];
    let kill = |before: &str, make: Make, after: Option<&str>| {
        at_every_point(|point| {
            let mut f = Fixture::new();
            let directory = f.dir.path().join("etc");
            std::fs::create_dir(&directory).unwrap();
            let path = directory.join("file");
            std::fs::write(&path, before).unwrap();
            let action = make(at(&directory), identity(&path));
            assert_eq!(safe(&action), Safe::Files);
            let plan = Plan { actions: vec![action.clone()], undo: vec![], ..f.plan() };
            f.append(Body::intent(&plan, "it is broken"));
            let (killed, calls) = traced(point, &child_command("files", &f, &plan.actions));
            let now = std::fs::read_to_string(&path).ok();
            let context = format!("{action} killed at {point:?}: {:?}", contents(&directory));
            assert!(now.as_deref() == Some(before) || now.as_deref() == after, "{context}");
            // removed content is stored elsewhere, complete, before it is removed
            let kept = if matches!(action, Action::TruncateFile { .. }) {
                contents(&f.state.join("backups"))
            } else {
                contents(&directory)
            };
            match &action {
                Action::RetireFile { .. } => assert!(kept.len() == 1 && kept[0].1 == before, "{context}"),
                Action::TruncateFile { .. } => {
                    assert!(kept.iter().all(|(_, text)| text == "last\n"), "{context}: {kept:?}");
                    assert!(now.as_deref() == Some(before) || kept.len() == 1, "{context}: {kept:?}");
                }
                _ => {}
            }
            assert_next_run_checks(&mut f, &plan);
            assert_eq!(std::fs::read_to_string(&path).ok(), now, "{context}: the next run repeats nothing");
            assert!(killed || now.as_deref() == after, "{context}");
            // and then the fix can be applied
            if killed && now.as_deref() == Some(before) {
                f.engine.returns(failing(&plan)).returns(healthy());
                assert_eq!(f.fix(&offer(&plan)), Exit::Done, "{context}: {}", f.output());
                assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), after, "{context}");
            }
            calls
        });
    };
    // sequential: a child that is being forked holds a copy of every lock until it executes its program
    for (before, make, after) in cases {
        kill(before, make, after);
    }
}

#[test]
fn journal_is_complete_or_torn_when_its_writer_is_killed() {
    if !tracer() {
        return;
    }
    at_every_point(|point| {
        let f = Fixture::new();
        f.append(Body::new(crate::audit::Kind::Note, "first"));
        let (killed, calls) = traced(point, &child_command("journal", &f, &[]));
        let bytes = Journal::at(&f.state).bytes().unwrap();
        assert!(verify(&bytes).1.iter().all(|fault| !fault.kind.is_tampering()), "{point:?}");
        let problems = || {
            let journal = Journal::at(&f.state);
            journal.check().unwrap().problems(&journal.database())
        };
        assert_eq!(problems(), [], "{point:?}");
        let known = f.journal().len();
        assert_eq!(f.append(Body::new(crate::audit::Kind::Note, "third")), known as u64 + 1, "the journal continues");
        assert!(verify(&Journal::at(&f.state).bytes().unwrap()).1.iter().all(|fault| !fault.kind.is_tampering()), "{point:?}");
        assert_eq!(problems(), [], "{point:?}");
        assert!(killed || known == 2, "{point:?}");
        calls
    });
}

const ID: &str = "feedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedface";

/// The first line of a request; head and body are read as far as they have arrived.
fn request(stream: &UnixStream) -> String {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    while lines.next().and_then(Result::ok).is_some_and(|l| !l.is_empty()) {}
    first
}

/// An engine that answers read requests and kills its client at the first request that changes something.
fn kill_at_the_request(listener: &UnixListener, mut child: Child) -> Vec<String> {
    let mut requests = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let received = request(&stream);
        if received.is_empty() {
            // a connection test without a request
            continue;
        }
        let body = if !received.starts_with("GET ") {
            requests.push(received);
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        } else if received.contains("/version") {
            r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_owned()
        } else if received.contains("/containers/") {
            format!(
                r#"{{"Id":"{ID}","Name":"/web","State":{{"Status":"exited","Running":false}},"Config":{{}},"HostConfig":{{}}}}"#
            )
        } else {
            "OK".to_owned()
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nApi-Version: 1.41\r\n";
        let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
    }
    requests
}

#[test]
fn engine_request_is_not_repeated_after_a_kill() {
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
        let requests = kill_at_the_request(&listener, child.spawn().unwrap());
        assert!(requests.len() == 1 && requests[0].contains(word), "{action}: {requests:?}");
        assert_next_run_checks(&mut f, &plan);
    }
}
