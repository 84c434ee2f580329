//! Every change opsctl can make to a host, one match arm per [`Action`].

#![allow(clippy::disallowed_methods, reason = "a fix acts on files and processes that were proven, under the watchdog")]

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::{ContainerUpdateBody, RestartPolicy};
use bollard::query_parameters::{
    PruneBuildOptions, PruneImagesOptionsBuilder, RemoveContainerOptions, RestartContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use opsctl_core::model::{Action, FileIdentity, quantity};
use opsctl_core::probe::blocking;
use opsctl_core::probe::docker::{ApiError, Docker};
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::{Permit, program};
use crate::failpoint::failpoint;
use crate::state::dir;
use host_files::{add_line, remove_file, remove_line, retire_file, set_sysctl, write_file};

mod engine_rules;
mod host_files;
mod nginx;
mod postgres;
mod priority;
mod prometheus;
mod redis;
mod rules;
mod signal;

/// Time limit of an engine request, in addition to the stop timeout of a container.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of a prune: removing gigabytes of layers takes minutes on a slow disk.
const PRUNE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Time limit of truncating a file; copying its tail to a slow disk takes most of it.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);

/// A failed action. The actions before it are not reverted here.
#[derive(Debug)]
pub(super) struct Failure {
    /// Number of actions completed before it.
    pub(super) done: usize,
    action: String,
    why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed: {}", self.action, self.why)
    }
}

/// Performs the permitted actions in order and returns notes for the operator.
pub(super) async fn apply(permit: &Permit<'_>) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for (done, action) in permit.actions().iter().enumerate() {
        match one(permit, action).await {
            Ok(note) => notes.extend(note),
            Err(why) => return Err(Failure { done, action: action.to_string(), why }),
        }
        if done == 0 {
            failpoint("between-actions");
        }
    }
    Ok(notes)
}

#[expect(clippy::too_many_lines, reason = "one arm per action: everything opsctl can do to a host is read in one place")]
async fn one(permit: &Permit<'_>, action: &Action) -> Result<Option<String>, String> {
    let docker = || permit.docker().ok_or_else(|| "the container engine does not answer".to_owned());
    let systemd = || permit.systemd().ok_or_else(|| "systemd does not answer".to_owned());
    let redis_server = || permit.redis().ok_or_else(|| "the server does not answer".to_owned());
    let postgres_server = || permit.postgres().ok_or_else(|| "the server does not answer".to_owned());
    let client = |time_limit: Duration| {
        let docker = docker()?;
        let engine = action.container().map_or(docker, |id| docker.of(id));
        may_change(engine, action)?;
        Ok::<_, String>(engine.client().clone().with_timeout(time_limit))
    };
    match action {
        Action::StartContainer { id } => {
            client(ENGINE_TIMEOUT)?.start_container(id, None::<StartContainerOptions>).await.map_err(engine_error)?;
        }
        Action::StopContainer { id, timeout_s } => {
            let options = StopContainerOptionsBuilder::new().t(seconds(*timeout_s)).build();
            client(ENGINE_TIMEOUT + stop_timeout(*timeout_s))?.stop_container(id, Some(options)).await.map_err(engine_error)?;
        }
        Action::RestartContainer { id, timeout_s } => {
            let options = RestartContainerOptionsBuilder::new().t(seconds(*timeout_s)).build();
            client(ENGINE_TIMEOUT + stop_timeout(*timeout_s))?
                .restart_container(id, Some(options))
                .await
                .map_err(engine_error)?;
        }
        Action::PauseContainer { id } => client(ENGINE_TIMEOUT)?.pause_container(id).await.map_err(engine_error)?,
        Action::UnpauseContainer { id } => client(ENGINE_TIMEOUT)?.unpause_container(id).await.map_err(engine_error)?,
        Action::SetRestartPolicy { id, policy, maximum_retry_count } => {
            let name = policy.parse().map_err(|_| format!("`{policy}` is not a restart policy"))?;
            let policy = RestartPolicy { name: Some(name), maximum_retry_count: Some(*maximum_retry_count) };
            let body = ContainerUpdateBody { restart_policy: Some(policy), ..ContainerUpdateBody::default() };
            client(ENGINE_TIMEOUT)?.update_container(id, body).await.map_err(engine_error)?;
        }
        Action::SetMemory { id, memory, memory_swap } => {
            let body =
                ContainerUpdateBody { memory: Some(*memory), memory_swap: Some(*memory_swap), ..ContainerUpdateBody::default() };
            client(ENGINE_TIMEOUT)?.update_container(id, body).await.map_err(engine_error)?;
        }
        Action::TruncateFile { path, identity, keep_bytes } => {
            let (file, identity, keep) = (PathBuf::from(path), *identity, *keep_bytes);
            let backups = permit.state_dir().join("backups");
            let saved = backups.join(format!("{}-{}", permit.seq(), file.file_name().unwrap_or_default().to_string_lossy()));
            let kept = saved.clone();
            in_thread(path, move || truncate_file(&file, identity, keep, &kept)).await?;
            return Ok(Some(format!("the last {} are in {}", quantity::bytes(*keep_bytes), saved.display())));
        }
        Action::TruncateDeletedFd { pid, start_ticks, fd, identity } => {
            let (pid, ticks, fd, identity) = (*pid, *start_ticks, *fd, *identity);
            in_thread(&format!("/proc/{pid}/fd/{fd}"), move || truncate_deleted(Path::new("/proc"), pid, ticks, fd, identity))
                .await?;
        }
        Action::PruneBuildCache => {
            let freed =
                client(PRUNE_TIMEOUT)?.prune_build(None::<PruneBuildOptions>).await.map_err(engine_error)?.space_reclaimed;
            return Ok(freed.map(reclaimed));
        }
        Action::PruneDanglingImages => {
            let options = PruneImagesOptionsBuilder::new().filters(&HashMap::from([("dangling", vec!["true"])])).build();
            let freed = client(PRUNE_TIMEOUT)?.prune_images(Some(options)).await.map_err(engine_error)?.space_reclaimed;
            return Ok(freed.map(reclaimed));
        }
        Action::RemoveContainers { ids } => return remove_containers(docker()?, ids).await.map(Some),
        Action::StartUnit { unit } => systemd()?.start(unit).await?,
        Action::StopUnit { unit } => systemd()?.stop(unit).await?,
        Action::RestartUnit { unit } => systemd()?.restart(unit).await?,
        Action::ResetFailedUnit { unit } => systemd()?.reset_failed(unit).await?,
        Action::EnableUnit { unit } => systemd()?.enable(unit).await?,
        Action::DisableUnit { unit } => systemd()?.disable(unit).await?,
        Action::ReloadUnits => systemd()?.reload().await?,
        Action::KeepEngineRules { rules } => engine_rules::keep(rules).await?,
        Action::Renice { pid, start_ticks, nice } => {
            let (pid, ticks, nice) = (*pid, *start_ticks, *nice);
            in_thread(&format!("process {pid}"), move || priority::set(Path::new("/proc"), pid, ticks, nice)).await?;
        }
        Action::SetSysctl { key, value } => {
            let (name, value) = (key.clone(), value.clone());
            in_thread(key, move || set_sysctl(Path::new("/proc/sys"), &name, &value)).await?;
        }
        Action::AddLine { path, line } => {
            let (file, line) = (PathBuf::from(path), line.clone());
            in_thread(path, move || add_line(&file, &line)).await?;
        }
        Action::RemoveLine { path, line } => {
            let (file, line) = (PathBuf::from(path), line.clone());
            in_thread(path, move || remove_line(&file, &line)).await?;
        }
        Action::WriteFile { path, text, executable } => {
            let (file, text, executable) = (PathBuf::from(path), text.clone(), *executable);
            in_thread(path, move || write_file(&file, &text, executable)).await?;
        }
        Action::RemoveFile { path, text } => {
            let (file, text) = (PathBuf::from(path), text.clone());
            in_thread(path, move || remove_file(&file, &text)).await?;
        }
        Action::RetireFile { path, text } => {
            let (file, text) = (PathBuf::from(path), text.clone());
            let now = opsctl_core::probe::io::clock::now();
            let retired = PathBuf::from(format!("{path}.deleted.{}", now.strftime("%Y%m%dT%H%M%SZ")));
            let to = retired.clone();
            in_thread(path, move || retire_file(&file, &text, &to)).await?;
            return Ok(Some(format!("renamed to {}", retired.display())));
        }
        Action::AddRule { program, table, chain, rule } => rules::add(program, table, chain, rule).await?,
        Action::RemoveRule { program, table, chain, rule, tidy } => rules::remove(program, table, chain, rule, *tidy).await?,
        Action::RedisSave { .. } => redis::save(redis_server()?).await?,
        Action::RedisSet { name, value, .. } => redis::set(redis_server()?, name, value).await?,
        Action::PgTerminateIdle { pid, started_us, idle_ms, .. } => {
            postgres::terminate_idle(postgres_server()?, *pid, *started_us, *idle_ms).await?;
        }
        Action::PgCancel { pid, started_us, .. } => postgres::cancel(postgres_server()?, *pid, *started_us).await?,
        Action::PgDropSlot { slot, restart_lsn, .. } => {
            postgres::drop_slot(postgres_server()?, slot, restart_lsn.as_deref()).await?;
        }
        Action::PgSetRole { role, setting, value, .. } => {
            postgres::set_role(postgres_server()?, role, setting, value.as_deref()).await?;
        }
        Action::ReloadNginx { pid, start_ticks, container, test } => {
            nginx::reload(permit.docker(), *pid, *start_ticks, container.as_deref(), test).await?;
        }
        Action::ReloadPrometheus { pid, start_ticks, container, test, over_http } => {
            prometheus::reload(permit.docker(), *pid, *start_ticks, container.as_deref(), test, *over_http).await?;
        }
        Action::Run { argv } => program::run(argv).await?,
        Action::RunOwn { program, identity, argv, cwd, timeout_s } => {
            program::run_own(program, *identity, argv, cwd.as_deref(), Duration::from_secs(*timeout_s)).await?;
        }
    }
    Ok(None)
}

/// Whether an action may be performed by this engine. That of another user is changed only by this user, and of an engine on
/// another machine only the state of containers: limits and disk space are those of that machine.
fn may_change(engine: &Docker, action: &Action) -> Result<(), String> {
    if let Some(user) = engine.foreign_user() {
        return Err(format!("the engine at {} belongs to user {user}: run opsctl as this user", engine.endpoint()));
    }
    let is_state = matches!(
        action,
        Action::StartContainer { .. }
            | Action::StopContainer { .. }
            | Action::RestartContainer { .. }
            | Action::PauseContainer { .. }
            | Action::UnpauseContainer { .. }
            | Action::SetRestartPolicy { .. }
    );
    if engine.is_remote() && !is_state {
        return Err(format!("the engine at {} runs on another machine: run opsctl there", engine.endpoint()));
    }
    Ok(())
}

/// Removes stopped containers. Each is inspected again immediately before: a container that was started since is kept, and so are
/// volumes.
async fn remove_containers(docker: &Docker, ids: &[String]) -> Result<String, String> {
    let mut left = Vec::new();
    for id in ids {
        let engine = docker.of(id);
        may_change(engine, &Action::RemoveContainers { ids: Vec::new() })?;
        let container = match docker.inspect_now(id).await {
            Ok(container) => container,
            // removed by another client
            Err(opsctl_core::probe::ProbeError::Skip(_)) => continue,
            Err(e) => return Err(e.to_string()),
        };
        if container.state.running || container.state.paused || container.state.restarting {
            left.push(container.name.clone());
            continue;
        }
        // without force the engine rejects the removal of a running container
        let options = RemoveContainerOptions { v: false, force: false, link: false };
        let client = engine.client().clone().with_timeout(PRUNE_TIMEOUT);
        client.remove_container(id, Some(options)).await.map_err(engine_error)?;
    }
    let removed = quantity::count(ids.len() - left.len(), "container");
    Ok(if left.is_empty() {
        format!("removed {removed}")
    } else {
        format!("removed {removed}; running again and left: {}", left.join(", "))
    })
}

/// Saves the tail of a file, then truncates it to zero. The file is opened once, so that the checked file is the truncated one.
fn truncate_file(path: &Path, identity: FileIdentity, keep: u64, saved: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        // a FIFO at this path must not block
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)?;
    let length = same_file(&file, identity, |links| links > 0)?;
    dir::ensure(saved.parent().unwrap_or(Path::new("/")))?;
    let start = length.saturating_sub(keep);
    match save(&mut file, start, keep, saved) {
        // on a full filesystem: the discarded beginning makes room for the saved tail
        Err(e) if e.kind() == io::ErrorKind::StorageFull && start > 0 => {
            fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, start)?;
            save(&mut file, start, keep, saved).map_err(|e| {
                io::Error::new(e.kind(), format!("the beginning was cut; the tail could not be saved and was kept: {e}"))
            })?;
        }
        result => result?,
    }
    file.set_len(0)
}

/// Copies the tail of a file atomically: a temporary file is renamed after it is complete and synced.
fn save(file: &mut File, start: u64, keep: u64, saved: &Path) -> io::Result<()> {
    let backups = saved.parent().unwrap_or(Path::new("/"));
    file.seek(SeekFrom::Start(start))?;
    let mut copy = tempfile::Builder::new().prefix(".tail").tempfile_in(backups)?;
    io::copy(&mut file.take(keep), copy.as_file_mut())?;
    copy.as_file().sync_all()?;
    copy.persist_noclobber(saved).map_err(|e| e.error)?;
    dir::sync(backups)
}

/// Truncates a deleted file through the descriptor of the process that holds it.
fn truncate_deleted(proc: &Path, pid: i32, start_ticks: u64, fd: i32, identity: FileIdentity) -> io::Result<()> {
    // opened before the check: a pid that is reused in between leads to another file or another start time
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags(OFlags::NONBLOCK))
        .open(proc.join(pid.to_string()).join("fd").join(fd.to_string()))?;
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat"))?;
    if start_time(&stat) != Some(start_ticks) {
        return Err(io::Error::other(format!("pid {pid} is another process now")));
    }
    same_file(&file, identity, |links| links == 0)?;
    file.set_len(0)
}

/// Length of a regular file with the expected identity.
fn same_file(file: &File, identity: FileIdentity, links: impl Fn(u64) -> bool) -> io::Result<u64> {
    let meta = file.metadata()?;
    if !meta.is_file() || (FileIdentity { dev: meta.dev(), ino: meta.ino() }) != identity || !links(meta.nlink()) {
        return Err(io::Error::other("the path now is another file"));
    }
    Ok(meta.len())
}

/// Field 22 of `/proc/pid/stat` (`proc_pid_stat(5)`): start time in clock ticks. The name in field 2 may contain any character, also
/// `)`.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

async fn in_thread(path: &str, act: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), String> {
    match blocking::run("the file", path, FILE_TIMEOUT, move |_| act()).await {
        Ok(result) => result.map_err(|e| format!("{path}: {e}")),
        Err(_) => Err(format!("{path}: timed out after {}; the operation may still complete", super::show::length(FILE_TIMEOUT))),
    }
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}

fn seconds(timeout_s: i64) -> i32 {
    i32::try_from(timeout_s).unwrap_or(i32::MAX)
}

fn stop_timeout(timeout_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(timeout_s).unwrap_or(0))
}

fn reclaimed(bytes: i64) -> String {
    format!("reclaimed {}", quantity::bytes(u64::try_from(bytes).unwrap_or(0)))
}

/// The error message of the engine, without the layers of the client library around it.
fn engine_error(error: DockerError) -> String {
    ApiError::from(error).to_string()
}

#[cfg(test)]
mod tests;
