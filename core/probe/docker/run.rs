//! Execution of a server's own tools in its container or on this host, with the rights of the server.

use std::time::Duration;

use crate::model::ServerProcess;
use crate::probe::docker::{Docker, ExecResult};
use crate::probe::io::Root;
use crate::probe::io::command::SAFE_PATH;
use crate::probe::io::run_as::run_as;
use crate::probe::proc::owner::inner_user;
use crate::probe::{Io, blocking};

/// Timeout of inspecting the process first.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit code of a shell, and of the engine, for a program that does not exist.
const NOT_FOUND: i64 = 127;

/// Runs `argv`, which may come from the server itself: in its container by the engine, as the user of `process`; on this host
/// with the rights of `process` (see [`run_as`]). The error is the reason for not running it.
pub async fn run_for(
    docker: Option<&Docker>,
    container: Option<&str>,
    process: ServerProcess,
    argv: &[String],
    environment: &[(&str, &str)],
    timeout: Duration,
) -> Result<ExecResult, String> {
    let Some(name) = argv.first().cloned() else { return Err("there is nothing to run".to_owned()) };
    let from = format!("process {}", process.pid);
    match (container, docker) {
        (Some(id), Some(docker)) => {
            let user = blocking::run("a process", &from, READ_TIMEOUT, move |io| inner_user(io, process.pid)).await;
            let user = user.map_err(|e| e.to_string())?.ok_or("the user of its process is not known")?;
            let words: Vec<&str> = argv.iter().map(String::as_str).collect();
            let environment: Vec<String> = environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
            docker.exec(id, &user, &words, &environment, timeout).await.map_err(|e| e.to_string())
        }
        (Some(_), None) => Err("it is in a container, and the engine does not answer".to_owned()),
        (None, _) => {
            let found = blocking::run("a program", &from, READ_TIMEOUT, move |io| find(io, process.pid, &name)).await;
            let Some(program) = found.map_err(|e| e.to_string())? else {
                return Ok(ExecResult { code: Some(NOT_FOUND), ..ExecResult::default() });
            };
            let argv: Vec<String> = std::iter::once(program).chain(argv.iter().skip(1).cloned()).collect();
            let ended = run_as(process, &argv, environment, timeout).await.map_err(|e| e.to_string())?;
            Ok(ExecResult { code: ended.status.code().map(i64::from), stdout: ended.stdout, stderr: ended.stderr })
        }
    }
}

/// Absolute path of a program below the root of `pid`, or `None` if it does not exist.
fn find(io: &Io, pid: i32, name: &str) -> Option<String> {
    let root = Root::of(io, pid).ok()?;
    if name.starts_with('/') {
        return root.exists(name).then(|| name.to_owned());
    }
    SAFE_PATH.split(':').map(|directory| format!("{directory}/{name}")).find(|path| root.exists(path))
}
