//! What could be done about a finding, as data. Nothing here acts.

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

/// What a fix may interrupt. Ordered.
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
    /// What the class means, for people.
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

/// A fix a check knows.
#[derive(Debug, PartialEq, Eq)]
pub struct FixSpec {
    /// `area.verb`, for example `container.raise-memory`.
    pub id: &'static str,
    /// What it may interrupt.
    pub risk: Risk,
    /// Imperative, one line.
    pub title: &'static str,
}

/// What makes a file this one and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// One effect. A closed set, so that everything opsctl can do to a host is read in one place; one arm each in `src/fix/apply.rs`.
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
    /// Saves the last `keep_bytes` of a file below the state directory, then cuts the file to zero. Never unlinks: its writer holds it open.
    TruncateFile {
        /// Absolute path.
        path: String,
        /// The file that was seen; another one of the same name is left alone.
        identity: FileIdentity,
        /// How much of the end is saved.
        keep_bytes: u64,
    },
    /// Cuts a deleted file that a process still holds open to zero, through `/proc/<pid>/fd/<fd>`.
    TruncateDeletedFd {
        /// Process that holds it.
        pid: i32,
        /// Start time of that process in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// Its descriptor.
        fd: i32,
        /// The file that was seen.
        identity: FileIdentity,
    },
    /// `POST /build/prune`.
    PruneBuildCache,
    /// `POST /images/prune` of dangling images.
    PruneDanglingImages,
    /// `DELETE /containers/{id}` of exactly these, each re-inspected.
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
    /// `systemctl enable`: at the next boot; nothing starts now.
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
    /// Changes nothing: fails when one of these rules of the container engine is no longer there.
    KeepEngineRules {
        /// Lines of `iptables-save` about the engine's chains, each with its table in front.
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
    /// Sets a kernel setting until the next boot.
    SetSysctl {
        /// `net.core.somaxconn`.
        key: String,
        /// As it is written.
        value: String,
    },
    /// Adds a line to the end of a small configuration file, unless it is in it; makes the file if need be.
    AddLine {
        /// Absolute path.
        path: String,
        /// Without line break.
        line: String,
    },
    /// Removes a line that [`Action::AddLine`] added; a file that is empty then goes too.
    RemoveLine {
        /// Absolute path.
        path: String,
        /// Without line break.
        line: String,
    },
    /// Writes a small file of opsctl's own; another one of that name is left alone.
    WriteFile {
        /// Absolute path.
        path: String,
        /// All of it.
        text: String,
        /// A program.
        executable: bool,
    },
    /// Removes a file that [`Action::WriteFile`] wrote, if it is still as it was written.
    RemoveFile {
        /// Absolute path.
        path: String,
        /// What was written.
        text: String,
    },
    /// Renames a file that is as it was seen to `<path>.deleted.<time>`, so that nobody reads it and nothing is lost.
    RetireFile {
        /// Absolute path.
        path: String,
        /// What was seen in it.
        text: String,
    },
    /// Adds a rule at the head of a chain of iptables, unless it is in it.
    AddRule {
        /// `iptables-nft`, `iptables-legacy` or `iptables`.
        program: String,
        /// Table.
        table: String,
        /// Chain.
        chain: String,
        /// The rule, in words.
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
        /// The rule, in words.
        rule: Vec<String>,
        /// Also the chain and the table of nftables, which were not there before, when nothing else is in them.
        tidy: bool,
    },
    /// `BGSAVE`, and waits until it has ended.
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
        /// As it is written.
        value: String,
    },
    /// `pg_terminate_backend` of a session, if it is still the same and still idle in a transaction.
    PgTerminateIdle {
        /// The server's id in the inventory.
        server: String,
        /// Process id of the session.
        pid: i32,
        /// Its start, in microseconds since the epoch.
        started_us: i64,
        /// How long it must have been idle, in milliseconds.
        idle_ms: u64,
    },
    /// `pg_cancel_backend` of a session's query, if it is still the same session and runs one.
    PgCancel {
        /// The server's id in the inventory.
        server: String,
        /// Process id of the session.
        pid: i32,
        /// Its start, in microseconds since the epoch.
        started_us: i64,
    },
    /// `pg_drop_replication_slot`, if nobody uses it and it has not moved.
    PgDropSlot {
        /// The server's id in the inventory.
        server: String,
        /// Name of the slot.
        slot: String,
        /// Where it stands; none when it is lost.
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
        /// As it is written.
        value: Option<String>,
    },
    /// Runs nginx's own test and, if it passes, sends SIGHUP to the master, if it is still the same.
    ReloadNginx {
        /// Its master.
        pid: i32,
        /// Start time of the master in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// Full id of the container it is in; the test is run there.
        container: Option<String>,
        /// The test: program and arguments.
        test: Vec<String>,
    },
    /// Runs Prometheus' own test of its configuration and, if it passes, lets it load it, if it is still the same process.
    ReloadPrometheus {
        /// Its process.
        pid: i32,
        /// Its start time in clock ticks since boot, so that a reused pid is not touched.
        start_ticks: u64,
        /// Full id of the container it is in; the test is run there.
        container: Option<String>,
        /// The test: program and arguments.
        test: Vec<String>,
        /// `POST /-/reload` instead of SIGHUP: it answers whether it could.
        over_http: bool,
    },
    /// Runs a program with these arguments; never through a shell.
    Run {
        /// Program (looked up in PATH) and arguments.
        argv: Vec<String>,
    },
    /// Runs a program of a team's own runbook with these arguments, in a small environment; never through a shell.
    RunOwn {
        /// Absolute path.
        program: String,
        /// The program that was seen; another one of the same name is not run.
        identity: FileIdentity,
        /// Its name and its arguments.
        argv: Vec<String>,
        /// Folder it is run in; `/` without.
        cwd: Option<String>,
        /// How long it may run, in seconds.
        timeout_s: u64,
    },
}

impl fmt::Display for Action {
    /// As a command a person could have typed.
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
                write!(f, "check that the engine's {} iptables rules are still there", rules.len())
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

/// Everything the guard needs to show, confirm, apply, verify and take back a fix. Two plans are equal when they would do the same to the same object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Fix id.
    pub fix: String,
    /// What it may interrupt; a plan may be riskier than its [`FixSpec`] says, never less.
    pub risk: Risk,
    /// What it acts on, by immutable identity.
    pub subject: Subject,
    /// The check that found the fault and will verify the fix.
    pub check: String,
    /// The target that check is run against.
    pub target: Target,
    /// The finding's code: the fix is verified when it is no longer reported.
    pub code: String,
    /// What is done, in order.
    pub actions: Vec<Action>,
    /// What takes it back, in order; empty when nothing can.
    pub undo: Vec<Action>,
    /// Who else feels it.
    pub blast: Vec<String>,
    /// How long the object is interrupted, for people.
    pub downtime: String,
    /// What would recur after a reboot or a recreate.
    pub recurs: Option<String>,
    /// How long to wait for the check to turn ok.
    pub verify_within: Duration,
    /// How long the check must then stay ok, so that a container that dies again after 10 s is not called fixed.
    pub stable_for: Duration,
}

impl Plan {
    /// A plan that acts at once, affects nobody else, cannot be taken back, and is verified by the check that found the fault
    /// within 30 s. What differs is said with the methods below.
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

    /// What takes it back.
    #[must_use]
    pub fn undo(mut self, actions: Vec<Action>) -> Self {
        self.undo = actions;
        self
    }

    /// Who else feels it, and what is lost.
    #[must_use]
    pub fn affects(mut self, whom: impl IntoIterator<Item = String>) -> Self {
        self.blast.extend(whom);
        self
    }

    /// How long the object is interrupted.
    #[must_use]
    pub fn downtime(mut self, text: impl Into<String>) -> Self {
        self.downtime = text.into();
        self
    }

    /// What brings the fault back after a reboot or a recreate.
    #[must_use]
    pub fn recurs(mut self, text: impl Into<String>) -> Self {
        self.recurs = Some(text.into());
        self
    }

    /// How long to wait for the check to turn ok, and how long it must then stay so.
    #[must_use]
    pub fn verified(mut self, within: Duration, stable_for: Duration) -> Self {
        (self.verify_within, self.stable_for) = (within, stable_for);
        self
    }
}

/// Why a fix is not possible, not allowed, or only to be done by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// What the fix needs is not so (any more).
    Precondition(String),
    /// Policy forbids it.
    Policy(String),
    /// R4: the text is what a person would do.
    ByHand(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Precondition(why) | Self::Policy(why) => f.write_str(why),
            Self::ByHand(what) => write!(f, "to be done by hand: {what}"),
        }
    }
}
