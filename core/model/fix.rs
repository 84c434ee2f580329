//! Fixes as data. Nothing here performs an action.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check::CheckSpec,
    finding::Finding,
    target::{Subject, Target},
    text::shell_word,
};

/// Impact of a fix. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Risk {
    /// Reads only.
    R0,
    /// No interruption, reversible.
    R1,
    /// One object is interrupted.
    R2,
    /// Many objects are interrupted, or reclaimable data is lost.
    R3,
    /// Irreversible or service-wide: the command is printed, never run.
    R4,
}

impl Risk {
    /// Description of the class.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::R0 => "reads only",
            Self::R1 => "no interruption, reversible",
            Self::R2 => "one object is interrupted",
            Self::R3 => "many objects are interrupted or reclaimable data is lost",
            Self::R4 => "printed only, never run",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A fix of a check.
#[derive(Debug, PartialEq, Eq)]
pub struct FixSpec {
    /// `area.verb`, for example `container.raise-memory`.
    pub id: &'static str,
    /// Its impact.
    pub risk: Risk,
    /// Imperative, one line.
    pub title: &'static str,
}

/// Identity of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// One effect. The set is closed, so that everything opsctl can do to a host is defined in one place; each has one arm in
/// `src/fix/apply.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// `POST /containers/{id}/start`.
    StartContainer {
        /// Full container id.
        id: String,
    },
    /// `POST /containers/{id}/stop`.
    StopContainer {
        /// Full container id.
        id: String,
        /// Seconds between the stop signal and SIGKILL.
        timeout_s: i64,
    },
    /// `POST /containers/{id}/restart`.
    RestartContainer {
        /// Full container id.
        id: String,
        /// Seconds between the stop signal and SIGKILL.
        timeout_s: i64,
    },
    /// `POST /containers/{id}/pause`.
    PauseContainer {
        /// Full container id.
        id: String,
    },
    /// `POST /containers/{id}/unpause`.
    UnpauseContainer {
        /// Full container id.
        id: String,
    },
    /// `POST /containers/{id}/update` of the restart policy.
    SetRestartPolicy {
        /// Full container id.
        id: String,
        /// `no`, `always`, `unless-stopped`, `on-failure`.
        policy: String,
        /// Only for `on-failure`.
        maximum_retry_count: i64,
    },
    /// `POST /containers/{id}/update` of the memory limit.
    SetMemory {
        /// Full container id.
        id: String,
        /// Limit in bytes.
        memory: i64,
        /// Memory plus swap in bytes; -1 for unlimited swap.
        memory_swap: i64,
    },
    /// Saves the last `keep_bytes` of a file below the state directory, then truncates the file to zero. Never unlinks it: the
    /// writer has it open.
    TruncateFile {
        /// Absolute path.
        path: String,
        /// The file that was inspected; another file with the same name is not touched.
        identity: FileIdentity,
        /// Number of bytes saved from the end.
        keep_bytes: u64,
    },
    /// Truncates a deleted file that a process still has open, through `/proc/<pid>/fd/<fd>`.
    TruncateDeletedFd {
        /// Process that has it open.
        pid: i32,
        /// Start time of that process in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// File descriptor in that process.
        fd: i32,
        /// The file that was inspected.
        identity: FileIdentity,
    },
    /// `POST /build/prune`.
    PruneBuildCache,
    /// `POST /images/prune` of dangling images.
    PruneDanglingImages,
    /// `DELETE /containers/{id}` of exactly these containers, each inspected again before.
    RemoveContainers {
        /// Full container ids.
        ids: Vec<String>,
    },
    /// `systemctl start`.
    StartUnit {
        /// Full unit name.
        unit: String,
    },
    /// `systemctl stop`.
    StopUnit {
        /// Full unit name.
        unit: String,
    },
    /// `systemctl restart`.
    RestartUnit {
        /// Full unit name.
        unit: String,
    },
    /// `systemctl reset-failed`.
    ResetFailedUnit {
        /// Full unit name.
        unit: String,
    },
    /// `systemctl enable`: takes effect at the next boot; nothing is started now.
    EnableUnit {
        /// Full unit name.
        unit: String,
    },
    /// `systemctl disable`.
    DisableUnit {
        /// Full unit name.
        unit: String,
    },
    /// `systemctl daemon-reload`.
    ReloadUnits,
    /// Changes nothing: fails when one of these rules of the container engine no longer exists.
    KeepEngineRules {
        /// Lines of `iptables-save` that refer to chains of the engine, each prefixed with its table.
        rules: Vec<String>,
    },
    /// Sets the priority of all threads of a process.
    Renice {
        /// Process.
        pid: i32,
        /// Its start time in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// -20 to 19.
        nice: i32,
    },
    /// Sets a kernel parameter until the next boot.
    SetSysctl {
        /// `net.core.somaxconn`.
        key: String,
        /// Value as written to the file.
        value: String,
    },
    /// Appends a line to a small configuration file unless it contains the line; creates the file if necessary.
    AddLine {
        /// Absolute path.
        path: String,
        /// Without line break.
        line: String,
    },
    /// Removes a line that [`Action::AddLine`] added, and the file if it is empty afterwards.
    RemoveLine {
        /// Absolute path.
        path: String,
        /// Without line break.
        line: String,
    },
    /// Writes a small file that belongs to opsctl; an existing file with other contents is not touched.
    WriteFile {
        /// Absolute path.
        path: String,
        /// Complete contents.
        text: String,
        /// The file is executable.
        executable: bool,
    },
    /// Removes a file that [`Action::WriteFile`] wrote, if it is unchanged.
    RemoveFile {
        /// Absolute path.
        path: String,
        /// Contents that were written.
        text: String,
    },
    /// Renames an unchanged file to `<path>.deleted.<time>`, so that no program reads it and no data is lost.
    RetireFile {
        /// Absolute path.
        path: String,
        /// Contents that were inspected.
        text: String,
    },
    /// Inserts a rule at the head of an iptables chain unless the chain contains it.
    AddRule {
        /// `iptables-nft`, `iptables-legacy` or `iptables`.
        program: String,
        /// Table.
        table: String,
        /// Chain.
        chain: String,
        /// Rule, as arguments.
        rule: Vec<String>,
    },
    /// Removes a rule that [`Action::AddRule`] added.
    RemoveRule {
        /// `iptables-nft`, `iptables-legacy` or `iptables`.
        program: String,
        /// Table.
        table: String,
        /// Chain.
        chain: String,
        /// Rule, as arguments.
        rule: Vec<String>,
        /// Also removes the chain and the nftables table, which did not exist before, when they are empty.
        tidy: bool,
    },
    /// `BGSAVE`, and waits until the snapshot has finished.
    RedisSave {
        /// The server's id in the inventory.
        server: String,
    },
    /// `CONFIG SET`.
    RedisSet {
        /// The server's id in the inventory.
        server: String,
        /// Setting.
        name: String,
        /// New value.
        value: String,
    },
    /// `pg_terminate_backend` of a session, if it is still the same session and still idle in a transaction.
    PgTerminateIdle {
        /// The server's id in the inventory.
        server: String,
        /// Process id of the session.
        pid: i32,
        /// Session start in microseconds since the epoch.
        started_us: i64,
        /// Minimum idle time in milliseconds.
        idle_ms: u64,
    },
    /// `pg_cancel_backend` of a session's query, if it is still the same session and executes a query.
    PgCancel {
        /// The server's id in the inventory.
        server: String,
        /// Process id of the session.
        pid: i32,
        /// Session start in microseconds since the epoch.
        started_us: i64,
    },
    /// `pg_drop_replication_slot`, if the slot is inactive and has not advanced.
    PgDropSlot {
        /// The server's id in the inventory.
        server: String,
        /// Name of the slot.
        slot: String,
        /// `restart_lsn` of the slot; `None` if the slot is lost.
        restart_lsn: Option<String>,
    },
    /// `ALTER ROLE … SET`, or `RESET` without a value.
    PgSetRole {
        /// The server's id in the inventory.
        server: String,
        /// Role.
        role: String,
        /// Setting.
        setting: String,
        /// New value.
        value: Option<String>,
    },
    /// Runs `nginx -t` and, if it passes, sends SIGHUP to the master, if it is still the same process.
    ReloadNginx {
        /// PID of the master.
        pid: i32,
        /// Start time of the master in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// Full id of its container, where the test is run.
        container: Option<String>,
        /// Test command: program and arguments.
        test: Vec<String>,
    },
    /// Runs `promtool check config` and, if it passes, reloads Prometheus, if it is still the same process.
    ReloadPrometheus {
        /// PID of Prometheus.
        pid: i32,
        /// Its start time in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// Full id of its container, where the test is run.
        container: Option<String>,
        /// Test command: program and arguments.
        test: Vec<String>,
        /// `POST /-/reload` instead of SIGHUP: the response reports whether the reload succeeded.
        over_http: bool,
    },
    /// Runs a program with these arguments, never through a shell.
    Run {
        /// Program (looked up in PATH) and arguments.
        argv: Vec<String>,
    },
    /// Runs a program of a site runbook with these arguments and a small environment, never through a shell.
    RunOwn {
        /// Absolute path.
        program: String,
        /// The program that was inspected; another file with the same name is not run.
        identity: FileIdentity,
        /// Program name and arguments.
        argv: Vec<String>,
        /// Working directory; `/` if unset.
        cwd: Option<String>,
        /// Timeout in seconds.
        timeout_s: u64,
    },
}

impl fmt::Display for Action {
    /// The action as a shell command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
        match self {
            Self::StartContainer { id } => write!(f, "docker start {}", short(id)),
            Self::StopContainer { id, timeout_s } => write!(f, "docker stop -t {timeout_s} {}", short(id)),
            Self::RestartContainer { id, timeout_s } => write!(f, "docker restart -t {timeout_s} {}", short(id)),
            Self::PauseContainer { id } => write!(f, "docker pause {}", short(id)),
            Self::UnpauseContainer { id } => write!(f, "docker unpause {}", short(id)),
            Self::SetRestartPolicy { id, policy, maximum_retry_count } => {
                write!(f, "docker update --restart {policy}")?;
                if *maximum_retry_count > 0 {
                    write!(f, ":{maximum_retry_count}")?;
                }
                write!(f, " {}", short(id))
            }
            Self::SetMemory { id, memory, memory_swap } => {
                write!(f, "docker update --memory {memory} --memory-swap {memory_swap} {}", short(id))
            }
            Self::TruncateFile { path, keep_bytes, .. } => {
                write!(f, "save the last {} of {path}, then truncate -s 0 {path}", super::quantity::bytes(*keep_bytes))
            }
            Self::TruncateDeletedFd { pid, fd, .. } => write!(f, "truncate -s 0 /proc/{pid}/fd/{fd}"),
            Self::PruneBuildCache => f.write_str("docker builder prune -f"),
            Self::PruneDanglingImages => f.write_str("docker image prune -f"),
            Self::RemoveContainers { ids } => {
                f.write_str("docker rm")?;
                ids.iter().try_for_each(|id| write!(f, " {}", short(id)))
            }
            Self::StartUnit { unit } => write!(f, "systemctl start {unit}"),
            Self::StopUnit { unit } => write!(f, "systemctl stop {unit}"),
            Self::RestartUnit { unit } => write!(f, "systemctl restart {unit}"),
            Self::ResetFailedUnit { unit } => write!(f, "systemctl reset-failed {unit}"),
            Self::EnableUnit { unit } => write!(f, "systemctl enable {unit}"),
            Self::DisableUnit { unit } => write!(f, "systemctl disable {unit}"),
            Self::ReloadUnits => f.write_str("systemctl daemon-reload"),
            Self::KeepEngineRules { rules } => {
                write!(f, "check that the engine's {} iptables rules still exist", rules.len())
            }
            Self::Renice { pid, nice, .. } => write!(f, "renice -n {nice} -p {pid}"),
            Self::SetSysctl { key, value } => write!(f, "sysctl -w {key}={value}"),
            Self::AddLine { path, line } => write!(f, "add the line `{line}` to {path}"),
            Self::RemoveLine { path, line } => write!(f, "remove the line `{line}` from {path}"),
            Self::WriteFile { path, .. } => write!(f, "write {path}"),
            Self::RemoveFile { path, .. } => write!(f, "rm {path}"),
            Self::RetireFile { path, .. } => write!(f, "mv {path} {path}.deleted.<time>"),
            Self::AddRule { program, table, chain, rule } => {
                write!(f, "{program} -w -t {table} -I {chain} 1 {}", rule.join(" "))
            }
            Self::RemoveRule { program, table, chain, rule, .. } => {
                write!(f, "{program} -w -t {table} -D {chain} {}", rule.join(" "))
            }
            Self::RedisSave { .. } => f.write_str("redis-cli BGSAVE"),
            Self::RedisSet { name, value, .. } => write!(f, "redis-cli CONFIG SET {name} {value}"),
            Self::PgTerminateIdle { pid, .. } => {
                write!(f, "SELECT pg_terminate_backend({pid}), if it is still idle in its transaction")
            }
            Self::PgCancel { pid, .. } => write!(f, "SELECT pg_cancel_backend({pid})"),
            Self::PgDropSlot { slot, .. } => write!(f, "SELECT pg_drop_replication_slot('{slot}')"),
            Self::PgSetRole { role, setting, value: Some(value), .. } => {
                write!(f, "ALTER ROLE \"{role}\" SET {setting} = '{value}'")
            }
            Self::PgSetRole { role, setting, value: None, .. } => write!(f, "ALTER ROLE \"{role}\" RESET {setting}"),
            Self::ReloadNginx { pid, test, container: None, .. } => write!(f, "{} && kill -HUP {pid}", test.join(" ")),
            Self::ReloadNginx { pid, test, container: Some(id), .. } => {
                write!(f, "docker exec {} {} && kill -HUP {pid}", short(id), test.join(" "))
            }
            Self::ReloadPrometheus { pid, test, container, over_http, .. } => {
                let within = container.as_ref().map_or_else(String::new, |id| format!("docker exec {} ", short(id)));
                let reload = if *over_http { "POST /-/reload".to_owned() } else { format!("kill -HUP {pid}") };
                write!(f, "{within}{} && {reload}", test.join(" "))
            }
            Self::Run { argv } => f.write_str(&argv.join(" ")),
            Self::RunOwn { program, argv, cwd, .. } => {
                if let Some(cwd) = cwd {
                    write!(f, "cd {} && ", shell_word(cwd))?;
                }
                f.write_str(&shell_word(program))?;
                argv.iter().skip(1).try_for_each(|word| write!(f, " {}", shell_word(word)))
            }
        }
    }
}

/// Everything the guard needs to show, confirm, apply, verify and revert a fix. Two plans are equal when they have the same
/// effect on the same object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Fix id.
    pub fix: String,
    /// Its impact; a plan may be riskier than its [`FixSpec`], never less risky.
    pub risk: Risk,
    /// The object it acts on, by immutable identity.
    pub subject: Subject,
    /// The check that reported the fault and verifies the fix.
    pub check: String,
    /// The target of that check.
    pub target: Target,
    /// Code of the finding: the fix is verified when the check no longer reports it.
    pub code: String,
    /// Actions, in order.
    pub actions: Vec<Action>,
    /// Actions that revert it, in order; empty if it cannot be reverted.
    pub undo: Vec<Action>,
    /// Other affected objects.
    pub blast: Vec<String>,
    /// Expected interruption of the object, as text.
    pub downtime: String,
    /// Cause of a recurrence after a reboot or a recreate.
    pub recurs: Option<String>,
    /// Time within which the check must become ok.
    pub verify_within: Duration,
    /// Time for which the check must then stay ok, so that a container that exits again after 10 s does not count as fixed.
    pub stable_for: Duration,
}

impl Plan {
    /// A plan without interruption or other affected objects that cannot be reverted and is verified by its check within 30 s.
    /// The methods below change these defaults.
    #[must_use]
    pub fn new(fix: &FixSpec, check: &CheckSpec, finding: &Finding, target: &Target, actions: Vec<Action>) -> Self {
        Self {
            fix: fix.id.to_owned(),
            risk: fix.risk,
            subject: finding.subject.clone(),
            check: check.id.to_owned(),
            target: target.clone(),
            code: finding.code.clone(),
            actions,
            undo: Vec::new(),
            blast: Vec::new(),
            downtime: "none".to_owned(),
            recurs: None,
            verify_within: Duration::from_secs(30),
            stable_for: Duration::ZERO,
        }
    }

    /// Sets the actions that revert it.
    #[must_use]
    pub fn undo(mut self, actions: Vec<Action>) -> Self {
        self.undo = actions;
        self
    }

    /// Adds other affected objects and data that is lost.
    #[must_use]
    pub fn affects(mut self, objects: impl IntoIterator<Item = String>) -> Self {
        self.blast.extend(objects);
        self
    }

    /// Sets the expected interruption.
    #[must_use]
    pub fn downtime(mut self, text: impl Into<String>) -> Self {
        self.downtime = text.into();
        self
    }

    /// Sets the cause of a recurrence after a reboot or a recreate.
    #[must_use]
    pub fn recurs(mut self, text: impl Into<String>) -> Self {
        self.recurs = Some(text.into());
        self
    }

    /// Sets the time within which the check must become ok, and for which it must stay ok.
    #[must_use]
    pub fn verified(mut self, within: Duration, stable_for: Duration) -> Self {
        (self.verify_within, self.stable_for) = (within, stable_for);
        self
    }
}

/// Reason why a fix is not possible, not allowed, or manual only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A precondition of the fix is not met, or no longer met.
    Precondition(String),
    /// Policy forbids it.
    Policy(String),
    /// R4: the text is the manual procedure.
    ByHand(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Precondition(why) | Self::Policy(why) => f.write_str(why),
            Self::ByHand(steps) => write!(f, "to be done by hand: {steps}"),
        }
    }
}
