//! Actions of fixes: everything opsctl can do to a host. Nothing here performs one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{quantity, text::shell_word};

/// Identity of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// Declares the actions: each variant with its documentation, its fields and, after `=>`, its text as a shell command, an
/// expression that can use references to the fields by name. The enum is declared as written, without the texts.
macro_rules! actions {
    // the container id in a field: only a field `id` has one
    (@container id $value:ident) => { Some($value.as_str()) };
    (@container $other:ident $value:ident) => { None };
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident $({ $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })? => $text:expr,
            )*
        }
    ) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $type,)* })?,)*
        }

        impl $name {
            /// Full id of the container that the action changes, which is its field `id`; `None` for all other actions.
            #[must_use]
            #[allow(unused_variables, reason = "all fields are bound, and only `id` is used")]
            pub fn container(&self) -> Option<&str> {
                match self {
                    $(Self::$variant $({ $($field),* })? => None$($(.or(actions!(@container $field $field)))*)?,)*
                }
            }
        }

        impl fmt::Display for $name {
            /// The action as a shell command.
            #[allow(unused_variables, reason = "a text uses some of the fields")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text: String = match self {
                    $(Self::$variant $({ $($field),* })? => $text,)*
                };
                f.write_str(&text)
            }
        }
    };
}

actions! {
    /// One effect. The set is closed, so that everything opsctl can do to a host is defined in one place: the data and the
    /// text of an action here, its effect in one arm in `src/fix/apply.rs`. The journal on disk contains the serialized form,
    /// which is stable. The field name `id` is reserved for the container that an action changes ([`Action::container`]),
    /// because an undo inspects it first.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", tag = "do")]
    pub enum Action {
        /// `POST /containers/{id}/start`.
        StartContainer {
            /// Full container id.
            id: String,
        } => format!("docker start {}", short_id(id)),
        /// `POST /containers/{id}/stop`.
        StopContainer {
            /// Full container id.
            id: String,
            /// Seconds between the stop signal and SIGKILL.
            timeout_s: i64,
        } => format!("docker stop -t {timeout_s} {}", short_id(id)),
        /// `POST /containers/{id}/restart`.
        RestartContainer {
            /// Full container id.
            id: String,
            /// Seconds between the stop signal and SIGKILL.
            timeout_s: i64,
        } => format!("docker restart -t {timeout_s} {}", short_id(id)),
        /// `POST /containers/{id}/pause`.
        PauseContainer {
            /// Full container id.
            id: String,
        } => format!("docker pause {}", short_id(id)),
        /// `POST /containers/{id}/unpause`.
        UnpauseContainer {
            /// Full container id.
            id: String,
        } => format!("docker unpause {}", short_id(id)),
        /// `POST /containers/{id}/update` of the restart policy.
        SetRestartPolicy {
            /// Full container id.
            id: String,
            /// `no`, `always`, `unless-stopped`, `on-failure`.
            policy: String,
            /// Only for `on-failure`.
            maximum_retry_count: i64,
        } => {
            let retries = if *maximum_retry_count > 0 { format!(":{maximum_retry_count}") } else { String::new() };
            format!("docker update --restart {policy}{retries} {}", short_id(id))
        },
        /// `POST /containers/{id}/update` of the memory limit.
        SetMemory {
            /// Full container id.
            id: String,
            /// Limit in bytes.
            memory: i64,
            /// Memory plus swap in bytes; -1 for unlimited swap.
            memory_swap: i64,
        } => format!("docker update --memory {memory} --memory-swap {memory_swap} {}", short_id(id)),
        /// Saves the last `keep_bytes` of a file below the state directory, then truncates the file to zero. Never unlinks it:
        /// the writer has it open.
        TruncateFile {
            /// Absolute path.
            path: String,
            /// The file that was inspected; another file with the same name is not touched.
            identity: FileIdentity,
            /// Number of bytes saved from the end.
            keep_bytes: u64,
        } => {
            let kept = quantity::bytes(*keep_bytes);
            format!("save the last {kept} of {path}, then truncate -s 0 {path}")
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
        } => format!("truncate -s 0 /proc/{pid}/fd/{fd}"),
        /// `POST /build/prune`.
        PruneBuildCache => "docker builder prune -f".to_owned(),
        /// `POST /images/prune` of dangling images.
        PruneDanglingImages => "docker image prune -f".to_owned(),
        /// `DELETE /containers/{id}` of exactly these containers, each inspected again before.
        RemoveContainers {
            /// Full container ids.
            ids: Vec<String>,
        } => {
            let ids: String = ids.iter().flat_map(|id| [" ", short_id(id)]).collect();
            format!("docker rm{ids}")
        },
        /// `systemctl start`.
        StartUnit {
            /// Full unit name.
            unit: String,
        } => format!("systemctl start {unit}"),
        /// `systemctl stop`.
        StopUnit {
            /// Full unit name.
            unit: String,
        } => format!("systemctl stop {unit}"),
        /// `systemctl restart`.
        RestartUnit {
            /// Full unit name.
            unit: String,
        } => format!("systemctl restart {unit}"),
        /// `systemctl reset-failed`.
        ResetFailedUnit {
            /// Full unit name.
            unit: String,
        } => format!("systemctl reset-failed {unit}"),
        /// `systemctl enable`: takes effect at the next boot; nothing is started now.
        EnableUnit {
            /// Full unit name.
            unit: String,
        } => format!("systemctl enable {unit}"),
        /// `systemctl disable`.
        DisableUnit {
            /// Full unit name.
            unit: String,
        } => format!("systemctl disable {unit}"),
        /// `systemctl daemon-reload`.
        ReloadUnits => "systemctl daemon-reload".to_owned(),
        /// Changes nothing: fails when one of these rules of the container engine no longer exists.
        KeepEngineRules {
            /// Lines of `iptables-save` that refer to chains of the engine, each prefixed with its table.
            rules: Vec<String>,
        } => format!("check that the engine's {} iptables rules still exist", rules.len()),
        /// Sets the priority of all threads of a process.
        Renice {
            /// Process.
            pid: i32,
            /// Its start time in clock ticks since boot, so that a reused pid is not touched.
            start_ticks: u64,
            /// -20 to 19.
            nice: i32,
        } => format!("renice -n {nice} -p {pid}"),
        /// Sets a kernel parameter until the next boot.
        SetSysctl {
            /// `net.core.somaxconn`.
            key: String,
            /// Value as written to the file.
            value: String,
        } => format!("sysctl -w {key}={value}"),
        /// Appends a line to a small configuration file unless it contains the line; creates the file if necessary.
        AddLine {
            /// Absolute path.
            path: String,
            /// Without line break.
            line: String,
        } => format!("add the line `{line}` to {path}"),
        /// Removes a line that [`Action::AddLine`] added, and the file if it is empty afterwards.
        RemoveLine {
            /// Absolute path.
            path: String,
            /// Without line break.
            line: String,
        } => format!("remove the line `{line}` from {path}"),
        /// Writes a small file that belongs to opsctl; an existing file with other contents is not touched.
        WriteFile {
            /// Absolute path.
            path: String,
            /// Complete contents.
            text: String,
            /// The file is executable.
            executable: bool,
        } => format!("write {path}"),
        /// Removes a file that [`Action::WriteFile`] wrote, if it is unchanged.
        RemoveFile {
            /// Absolute path.
            path: String,
            /// Contents that were written.
            text: String,
        } => format!("rm {path}"),
        /// Renames an unchanged file to `<path>.deleted.<time>`, so that no program reads it and no data is lost.
        RetireFile {
            /// Absolute path.
            path: String,
            /// Contents that were inspected.
            text: String,
        } => format!("mv {path} {path}.deleted.<time>"),
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
        } => format!("{program} -w -t {table} -I {chain} 1 {}", rule.join(" ")),
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
        } => format!("{program} -w -t {table} -D {chain} {}", rule.join(" ")),
        /// `BGSAVE`, and waits until the snapshot has finished.
        RedisSave {
            /// The server's id in the inventory.
            server: String,
        } => "redis-cli BGSAVE".to_owned(),
        /// `CONFIG SET`.
        RedisSet {
            /// The server's id in the inventory.
            server: String,
            /// Setting.
            name: String,
            /// New value.
            value: String,
        } => format!("redis-cli CONFIG SET {name} {value}"),
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
        } => format!("SELECT pg_terminate_backend({pid}), if it is still idle in its transaction"),
        /// `pg_cancel_backend` of a session's query, if it is still the same session and executes a query.
        PgCancel {
            /// The server's id in the inventory.
            server: String,
            /// Process id of the session.
            pid: i32,
            /// Session start in microseconds since the epoch.
            started_us: i64,
        } => format!("SELECT pg_cancel_backend({pid})"),
        /// `pg_drop_replication_slot`, if the slot is inactive and has not advanced.
        PgDropSlot {
            /// The server's id in the inventory.
            server: String,
            /// Name of the slot.
            slot: String,
            /// `restart_lsn` of the slot; `None` if the slot is lost.
            restart_lsn: Option<String>,
        } => format!("SELECT pg_drop_replication_slot('{slot}')"),
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
        } => match value {
            Some(value) => format!("ALTER ROLE \"{role}\" SET {setting} = '{value}'"),
            None => format!("ALTER ROLE \"{role}\" RESET {setting}"),
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
        } => format!("{}{} && kill -HUP {pid}", docker_exec(container.as_deref()), test.join(" ")),
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
        } => {
            let reload = if *over_http { "POST /-/reload".to_owned() } else { format!("kill -HUP {pid}") };
            format!("{}{} && {reload}", docker_exec(container.as_deref()), test.join(" "))
        },
        /// Runs a program with these arguments, never through a shell.
        Run {
            /// Program (looked up in PATH) and arguments.
            argv: Vec<String>,
        } => argv.join(" "),
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
        } => {
            let cd = cwd.as_ref().map_or_else(String::new, |cwd| format!("cd {} && ", shell_word(cwd)));
            let arguments: String = argv.iter().skip(1).map(|word| " ".to_owned() + &shell_word(word)).collect();
            format!("{cd}{}{arguments}", shell_word(program))
        },
    }
}

/// The id as `docker ps` shows it.
fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Prefix of a command that is run in a container.
fn docker_exec(container: Option<&str>) -> String {
    container.map_or_else(String::new, |id| format!("docker exec {} ", short_id(id)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ID: &str = "feedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedfacefeedface";

    #[test]
    fn serialized_form_is_stable() {
        let cases = [
            (Action::PruneBuildCache, r#"{"do":"prune-build-cache"}"#),
            (Action::StopContainer { id: "a".into(), timeout_s: 10 }, r#"{"do":"stop-container","id":"a","timeout_s":10}"#),
            (
                Action::TruncateDeletedFd { pid: 1, start_ticks: 2, fd: 3, identity: FileIdentity { dev: 4, ino: 5 } },
                r#"{"do":"truncate-deleted-fd","pid":1,"start_ticks":2,"fd":3,"identity":{"dev":4,"ino":5}}"#,
            ),
            (
                Action::PgSetRole { server: "s".into(), role: "r".into(), setting: "t".into(), value: None },
                r#"{"do":"pg-set-role","server":"s","role":"r","setting":"t","value":null}"#,
            ),
        ];
        for (action, json) in cases {
            assert_eq!(serde_json::to_string(&action).unwrap(), json);
            assert_eq!(serde_json::from_str::<Action>(json).unwrap(), action);
        }
    }

    #[test]
    fn container_is_the_changed_one() {
        let id = || ID.to_owned();
        assert_eq!(Action::StartContainer { id: id() }.container(), Some(ID));
        assert_eq!(Action::SetMemory { id: id(), memory: 1, memory_swap: -1 }.container(), Some(ID));
        assert_eq!(Action::RemoveContainers { ids: vec![id()] }.container(), None);
        assert_eq!(Action::PruneBuildCache.container(), None);
        // the configuration is tested in this container, which stays unchanged
        let reload = Action::ReloadNginx { pid: 1, start_ticks: 2, container: Some(id()), test: vec![] };
        assert_eq!(reload.container(), None);
    }

    #[test]
    fn text_is_a_shell_command() {
        let id = || ID.to_owned();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let policy =
            |maximum_retry_count| Action::SetRestartPolicy { id: id(), policy: "on-failure".into(), maximum_retry_count };
        let nginx = |container| Action::ReloadNginx { pid: 7, start_ticks: 2, container, test: words("nginx -t") };
        let prometheus = |over_http| Action::ReloadPrometheus {
            pid: 7,
            start_ticks: 2,
            container: Some(id()),
            test: words("promtool check config p.yml"),
            over_http,
        };
        let role = |value: Option<&str>| Action::PgSetRole {
            server: "s".into(),
            role: "app".into(),
            setting: "work_mem".into(),
            value: value.map(str::to_owned),
        };
        let own = |cwd: Option<&str>| Action::RunOwn {
            program: "/usr/bin/make".into(),
            identity: FileIdentity { dev: 1, ino: 2 },
            argv: vec!["make".into(), "a b".into()],
            cwd: cwd.map(str::to_owned),
            timeout_s: 30,
        };
        let cases = [
            (Action::StopContainer { id: id(), timeout_s: 10 }, "docker stop -t 10 feedfacefeed"),
            (policy(0), "docker update --restart on-failure feedfacefeed"),
            (policy(4), "docker update --restart on-failure:4 feedfacefeed"),
            (Action::RemoveContainers { ids: vec![id(), "b".into()] }, "docker rm feedfacefeed b"),
            (nginx(None), "nginx -t && kill -HUP 7"),
            (nginx(Some(id())), "docker exec feedfacefeed nginx -t && kill -HUP 7"),
            (prometheus(false), "docker exec feedfacefeed promtool check config p.yml && kill -HUP 7"),
            (prometheus(true), "docker exec feedfacefeed promtool check config p.yml && POST /-/reload"),
            (role(Some("4MB")), "ALTER ROLE \"app\" SET work_mem = '4MB'"),
            (role(None), "ALTER ROLE \"app\" RESET work_mem"),
            (own(None), "/usr/bin/make 'a b'"),
            (own(Some("/srv/my app")), "cd '/srv/my app' && /usr/bin/make 'a b'"),
        ];
        for (action, text) in cases {
            assert_eq!(action.to_string(), text);
        }
    }
}
