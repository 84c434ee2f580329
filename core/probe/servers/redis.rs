//! Sessions with servers of the Redis protocol.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError};
use serde::{Deserialize, Serialize};

use super::login::{Login, Secret, password};
use super::peer::{PeerConnection, UnprovenReason, reach};
pub use super::redis_info::{Info, keys, parse_info};
use super::redis_info::{setting, text};
use super::tls::Trust;
use super::{Bounded, ConnectAddr, REPLY_TIMEOUT, ServerHandle, SessionError, connect_addrs, millis, tls};
use crate::model::ServerRef;
use crate::probe::proc::files::{file_of, files_of, is_same_file};
use crate::probe::{Io, Memo, ProbeCx, ProbeError, Redactor, blocking, environment};

/// Environment variables of images and deployments that hold the password.
const PASSWORD_VARIABLES: &[&str] = &["REDIS_PASSWORD", "VALKEY_PASSWORD", "KEYDB_PASSWORD", "REDISCLI_AUTH"];

/// Configuration files of distributions and images.
const CONFIG_FILES: &[&str] = &[
    "/etc/redis/redis.conf",
    "/etc/redis.conf",
    "/etc/valkey/valkey.conf",
    "/usr/local/etc/redis/redis.conf",
    "/usr/local/etc/valkey/valkey.conf",
];

/// An error reply of a server: its first word, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// `LOADING`, `NOAUTH`, `MISCONF`, `NOPERM`, `ERR`, …
    pub code: String,
    /// Rest of the message.
    pub message: String,
}

/// Reasons for having no reply to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisCommandError {
    /// An error reply.
    Rejected(ErrorReply),
    /// Timeout, closed connection, or another protocol.
    Lost(SessionError),
}

/// A session. Commands may be sent concurrently.
pub struct Session {
    connection: MultiplexedConnection,
    /// Listening address.
    pub address: String,
    /// Whether the server accepts commands without authentication.
    pub without_login: bool,
    /// Logins of this run that the server rejected: it counts them like those of other clients.
    pub rejected_logins: u64,
    /// Error reply to PING: code and message.
    pub refuses: Option<(String, String)>,
    info: Memo<(), Result<Arc<Info>, RedisCommandError>>,
    driver: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Sends one command.
    pub async fn query<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisCommandError> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let mut connection = self.connection.clone();
        match tokio::time::timeout(REPLY_TIMEOUT, command.query_async(&mut connection)).await {
            Ok(result) => result.map_err(|e| no_answer(&self.address, &e)),
            Err(_) => Err(RedisCommandError::Lost(SessionError::Hung {
                address: self.address.clone(),
                after_ms: millis(REPLY_TIMEOUT),
            })),
        }
    }

    /// A reply as text; bytes that are not UTF-8 are replaced.
    pub async fn text(&self, words: &[&str]) -> Result<String, RedisCommandError> {
        let reply: redis::Value = self.query(words).await?;
        let garbage = || SessionError::Garbage { address: self.address.clone(), why: "the reply is not text".to_owned() };
        text(&reply).ok_or_else(|| RedisCommandError::Lost(garbage()))
    }

    /// Sends several commands for one database as a pipeline, without interleaved commands of other checks; rejected commands are
    /// omitted from the result.
    pub async fn query_in<T: FromRedisValue>(
        &self,
        database: u32,
        questions: &[Vec<&[u8]>],
    ) -> Result<Vec<Option<T>>, RedisCommandError> {
        let mut pipe = redis::pipe();
        pipe.ignore_errors().cmd("SELECT").arg(database);
        for words in questions {
            let mut command = Cmd::new();
            for word in words {
                command.arg(*word);
            }
            pipe.add_command(command);
        }
        let mut connection = self.connection.clone();
        let lost = |why| RedisCommandError::Lost(why);
        let answers: Vec<Result<redis::Value, RedisError>> =
            match tokio::time::timeout(REPLY_TIMEOUT, pipe.query_async(&mut connection)).await {
                Ok(result) => result.map_err(|e| no_answer(&self.address, &e))?,
                Err(_) => {
                    return Err(lost(SessionError::Hung { address: self.address.clone(), after_ms: millis(REPLY_TIMEOUT) }));
                }
            };
        Ok(answers.into_iter().skip(1).map(|a| a.ok().and_then(|v| T::from_redis_value(v).ok())).collect())
    }

    /// Reply to a custom query in one database.
    pub async fn reply(&self, database: u32, words: &[&str]) -> Result<Reply, RedisCommandError> {
        let mut pipe = redis::pipe();
        pipe.ignore_errors().cmd("SELECT").arg(database);
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        pipe.add_command(command);
        let mut connection = self.connection.clone();
        let answers: Vec<Result<redis::Value, RedisError>> =
            match tokio::time::timeout(REPLY_TIMEOUT, pipe.query_async(&mut connection)).await {
                Ok(result) => result.map_err(|e| no_answer(&self.address, &e))?,
                Err(_) => {
                    return Err(RedisCommandError::Lost(SessionError::Hung {
                        address: self.address.clone(),
                        after_ms: millis(REPLY_TIMEOUT),
                    }));
                }
            };
        let mut last = Reply::Nothing;
        for answer in answers {
            last = Reply::of(answer.map_err(|e| no_answer(&self.address, &e))?);
        }
        Ok(last)
    }

    /// `INFO`, with the error statistics if the server supports them; read once.
    pub async fn info(&self) -> Result<Arc<Info>, RedisCommandError> {
        self.info.get((), || async { self.info_now().await.map(Arc::new) }).await
    }

    /// [`Session::info`] without the cache.
    pub async fn info_now(&self) -> Result<Info, RedisCommandError> {
        let mut info = parse_info(&self.text(&["INFO"]).await?);
        // since 6.2; older versions return an empty reply
        if let Ok(text) = self.text(&["INFO", "errorstats"]).await {
            info.extend(parse_info(&text));
        }
        Ok(info)
    }

    /// One setting, or `None` if it does not exist or CONFIG is not permitted.
    pub async fn setting(&self, name: &str) -> Option<String> {
        setting(&self.query(&["CONFIG", "GET", name]).await.ok()?, name)
    }
}

/// Reply to a custom query.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The key or field does not exist.
    Nothing,
    /// A number.
    Number(f64),
    /// The beginning of a text.
    Text(String),
}

impl Reply {
    fn of(value: redis::Value) -> Self {
        match value {
            redis::Value::Int(n) => Self::Number(n as f64),
            redis::Value::Double(n) => Self::Number(n),
            redis::Value::Boolean(yes) => Self::Number(f64::from(u8::from(yes))),
            other => redis::from_redis_value::<Option<Vec<u8>>>(other)
                .ok()
                .flatten()
                .map_or(Self::Nothing, |bytes| Self::Text(String::from_utf8_lossy(&bytes).chars().take(200).collect())),
        }
    }
}

/// Any reply.
pub struct Any;

impl FromRedisValue for Any {
    fn from_redis_value(_: redis::Value) -> Result<Self, redis::ParsingError> {
        Ok(Self)
    }
}

/// A slow command: an entry of `SLOWLOG GET`. Its arguments are user data and are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowEntry {
    /// Name of the command.
    pub command: String,
    /// Duration in microseconds.
    pub micros: u64,
}

impl FromRedisValue for SlowEntry {
    /// An entry of another shape has no command and no duration, and costs only itself.
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        // id, time, duration, arguments, and since 4.0 address and name
        let redis::Value::Array(fields) = value else { return Ok(Self { command: String::new(), micros: 0 }) };
        let micros = fields.get(2).and_then(text).and_then(|n| n.parse().ok()).unwrap_or(0);
        let command = match fields.get(3) {
            Some(redis::Value::Array(words)) => words.first().and_then(text),
            _ => None,
        };
        Ok(Self { command: command.unwrap_or_default().to_uppercase(), micros })
    }
}

fn no_answer(address: &str, error: &RedisError) -> RedisCommandError {
    if let Some(code) = error.code().filter(|_| matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)) {
        return RedisCommandError::Rejected(ErrorReply {
            code: code.to_owned(),
            message: error.detail().unwrap_or_default().to_owned(),
        });
    }
    let (address, why) = (address.to_owned(), error.to_string());
    RedisCommandError::Lost(match error.kind() {
        // an incomplete reply is a Redis reply as far as it goes
        ErrorKind::Parse if why.contains("end of input") => {
            SessionError::Closed { address, why: "the connection ended in the middle of a reply".to_owned() }
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => SessionError::Garbage { address, why },
        _ => SessionError::Closed { address, why },
    })
}

/// Connects, authenticates if required, and verifies that the server replies.
pub(super) async fn open(known: &ServerHandle, cx: &ProbeCx) -> Result<Result<Session, SessionError>, ProbeError> {
    let addrs = match connect_addrs(known).await {
        Ok(addrs) => addrs,
        Err(why) => return Ok(Err(why)),
    };
    let mut last = SessionError::NotListening;
    for addr in &addrs {
        last = match open_over(addr, known, cx).await? {
            Ok(session) => return Ok(Ok(session)),
            // another socket of the same server replies no better, but the listener of another server may come first
            Err(why @ (SessionError::Refused { .. } | SessionError::Unproven { .. })) => why.or(last),
            Err(why) => return Ok(Err(why)),
        };
    }
    Ok(Err(last))
}

async fn open_over(addr: &ConnectAddr, known: &ServerHandle, cx: &ProbeCx) -> Result<Result<Session, SessionError>, ProbeError> {
    let trust = known.trust();
    let session = match start(addr, known, trust).await? {
        Ok((session, doubt)) => authenticate(session, doubt, known, trust, cx).await?,
        Err(why) => return Ok(Err(why)),
    };
    // a server that replies with garbage or closes the connection may expect a TLS handshake
    if trust.is_some() || !matches!(session, Err(SessionError::Garbage { .. } | SessionError::Closed { .. })) {
        return Ok(session);
    }
    let encrypted = Some(&Trust::Encrypted);
    match start(addr, known, encrypted).await? {
        Ok((session, doubt)) => authenticate(session, doubt, known, encrypted, cx).await,
        // result of a server that does not speak TLS either
        Err(_) => match start(addr, known, None).await? {
            Ok((session, doubt)) => authenticate(session, doubt, known, None, cx).await,
            Err(why) => Ok(Err(why)),
        },
    }
}

/// A new session, and the reason for sending no password.
type Begun = (Session, Option<UnprovenReason>);

async fn start(
    addr: &ConnectAddr,
    known: &ServerHandle,
    trust: Option<&Trust>,
) -> Result<Result<Begun, SessionError>, ProbeError> {
    let address = addr.address();
    let PeerConnection { stream, doubt } = match reach(addr, known, trust).await? {
        Ok(reached) => reached,
        Err(why) => return Ok(Err(why)),
    };
    let stream = match trust {
        Some(trust) => match tokio::time::timeout(REPLY_TIMEOUT, tls::over_tls(stream, known.host(), trust)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Ok(Err(SessionError::insecure(address, &e))),
            Err(_) => return Ok(Err(SessionError::Hung { address, after_ms: millis(REPLY_TIMEOUT) })),
        },
        None => stream,
    };
    // the library sends no commands of its own
    let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    match MultiplexedConnection::new_with_config(&plain, Bounded::new(stream), config).await {
        Ok((connection, driver)) => {
            let driver = tokio::spawn(driver);
            let session = Session {
                connection,
                address,
                without_login: false,
                rejected_logins: 0,
                refuses: None,
                info: Memo::default(),
                driver,
            };
            Ok(Ok((session, doubt)))
        }
        Err(e) => Ok(Err(SessionError::Closed { address, why: e.to_string() })),
    }
}

/// Verifies that the server replies, and authenticates if required.
async fn authenticate(
    mut session: Session,
    doubt: Option<UnprovenReason>,
    known: &ServerHandle,
    trust: Option<&Trust>,
    cx: &ProbeCx,
) -> Result<Result<Session, SessionError>, ProbeError> {
    let auth_error = match ping(&session).await {
        Ok(()) => {
            session.without_login = true;
            return Ok(Ok(session));
        }
        Err(RedisCommandError::Lost(why)) => return Ok(Err(why)),
        // protected mode: the server rejects clients from other hosts and closes the connection
        Err(RedisCommandError::Rejected(reply)) if reply.code == "DENIED" => {
            let address = session.address.clone();
            return Ok(Err(SessionError::Rejected { address, code: reply.code, message: reply.message }));
        }
        Err(RedisCommandError::Rejected(reply)) if matches!(reply.code.as_str(), "NOAUTH" | "NOPERM" | "WRONGPASS") => reply,
        // commands are rejected, but INFO is available
        Err(RedisCommandError::Rejected(reply)) => {
            session.without_login = true;
            session.refuses = Some((reply.code, reply.message));
            return Ok(Ok(session));
        }
    };
    let refused = |session: &Session, reply: ErrorReply, tried: Option<String>| SessionError::Login {
        address: session.address.clone(),
        message: format!("{} {}", reply.code, reply.message),
        tried,
    };
    let logins = logins(known, cx).await?;
    if logins.is_empty() {
        return Ok(Err(refused(&session, auth_error, None)));
    }
    // AUTH sends the password in clear text
    if !trust.is_some_and(Trust::proves)
        && let Some(doubt) = doubt
    {
        return Ok(Err(SessionError::Unproven { address: session.address.clone(), why: doubt }));
    }
    let mut last = refused(&session, auth_error, None);
    for login in logins.iter().take(3) {
        let mut words: Vec<&str> = vec!["AUTH"];
        words.extend(login.user.as_deref());
        words.push(login.password.as_ref().map_or("", Secret::reveal));
        match session.query::<redis::Value>(&words).await {
            Ok(_) => {
                return Ok(match ping(&session).await {
                    Err(RedisCommandError::Lost(why)) => Err(why),
                    Err(RedisCommandError::Rejected(reply)) if reply.code == "NOAUTH" => {
                        Err(refused(&session, reply, Some(login.from.clone())))
                    }
                    // other commands may be rejected, but the session is authenticated
                    Err(RedisCommandError::Rejected(reply)) => {
                        session.refuses = Some((reply.code, reply.message));
                        Ok(session)
                    }
                    Ok(()) => Ok(session),
                });
            }
            Err(RedisCommandError::Rejected(reply)) => {
                session.rejected_logins += 1;
                last = refused(&session, reply, Some(login.from.clone()));
            }
            Err(RedisCommandError::Lost(why)) => return Ok(Err(why)),
        }
    }
    Ok(Err(last))
}

async fn ping(session: &Session) -> Result<(), RedisCommandError> {
    session.query::<redis::Value>(&["PING"]).await.map(|_| ())
}

/// Available logins for this server, the most deliberate first.
async fn logins(known: &ServerHandle, cx: &ProbeCx) -> Result<Vec<Login>, ProbeError> {
    let mut logins: Vec<Login> = known.login.iter().filter(|l| l.password.is_some()).cloned().collect();
    let environment_of_server = cx.environment_of(&known.server).await;
    let arguments = match (&known.server.container, &cx.docker) {
        (Some(id), Some(docker)) => docker.arguments(id).await.unwrap_or_default(),
        _ => Vec::new(),
    };
    if let Some(password) = argument(&arguments, "--requirepass") {
        let password = Some(Secret::new(password, &cx.redactor));
        logins.push(Login { password, from: "the arguments of its container".to_owned(), ..Login::default() });
    }
    let (pid, port, redactor) = (known.server.process.map(|p| p.pid), super::tcp_port(&known.sockets), cx.redactor.clone());
    let read = move |io: &Io| of_process(io, pid, port, &environment_of_server, &redactor);
    let from = known.server.name.clone();
    logins.extend(blocking::run("a login", &from, REPLY_TIMEOUT, read).await?);
    // redis-cli sends it to 127.0.0.1:6379 unless another address is given
    if known.is_at_default(6379)
        && let Some(password) = environment("REDISCLI_AUTH")
    {
        let password = Some(Secret::new(password, &cx.redactor));
        logins.push(Login { password, from: "REDISCLI_AUTH".to_owned(), ..Login::default() });
    }
    Ok(logins)
}

/// Logins from the environment and from the files of a process.
fn of_process(io: &Io, pid: Option<i32>, port: Option<u16>, environment: &[String], redactor: &Redactor) -> Vec<Login> {
    let mut logins = Vec::new();
    if let Some((password, name)) = password(io, environment, PASSWORD_VARIABLES, pid, redactor) {
        logins.push(Login { password: Some(password), from: format!("{name} of its container"), ..Login::default() });
    }
    for path in CONFIG_FILES {
        let Some(text) = pid.and_then(|pid| file_of(io, pid, path)) else { continue };
        if let Some(login) = configured(&text, port, redactor) {
            logins.push(Login { from: (*path).to_owned(), ..login });
        }
    }
    logins
}

fn argument<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|a| a == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// `requirepass` of a configuration file, if the file belongs to the server on this port.
pub(super) fn configured(text: &str, port: Option<u16>, redactor: &Redactor) -> Option<Login> {
    let setting = |name: &str| {
        let value = text.lines().filter_map(|l| l.trim().strip_prefix(name)).find(|rest| rest.starts_with([' ', '\t']))?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    if let (Some(configured), Some(own)) = (setting("port").and_then(|p| p.parse::<u16>().ok()), port)
        && configured != own
    {
        return None;
    }
    let password = setting("requirepass").filter(|p| !p.is_empty())?;
    Some(Login { password: Some(Secret::new(password, redactor)), ..Login::default() })
}

/// The directory and the name of snapshots that the configuration file or the start arguments of a server set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfiguredSnapshot {
    /// Path of the configuration file, `its start arguments` or `its working directory`.
    pub source: String,
    /// Directory.
    pub dir: String,
    /// Name of the file.
    pub name: String,
    /// The directory in use is this directory, also by another path.
    pub is_in_use: bool,
    /// The start arguments are known, so that nothing else was set at the start.
    pub is_complete: bool,
}

/// `dir` and `dbfilename` of one source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SnapshotSettings {
    dir: Option<String>,
    name: Option<String>,
}

/// Default of `dbfilename`.
const DEFAULT_SNAPSHOT: &str = "dump.rdb";

/// Depth of nested `include` directives that are followed.
pub(super) const MAX_INCLUDES: usize = 4;

/// The configured snapshot of a server that saves to `dir` and was started with `config_file` (empty without one), or `None` if
/// neither its configuration file nor its start arguments are known.
pub async fn configured_snapshot(
    cx: &ProbeCx,
    server: &ServerRef,
    config_file: &str,
    dir: &str,
) -> Result<Option<ConfiguredSnapshot>, ProbeError> {
    let Some(process) = server.process else { return Ok(None) };
    let (words, started_in) = start_of(cx, server).await;
    let (config_file, dir) = (config_file.to_owned(), dir.to_owned());
    let read = move |io: &Io| {
        let file = (!config_file.is_empty()).then(|| {
            let mut found = SnapshotSettings::default();
            include(io, process.pid, &config_file, MAX_INCLUDES, &mut found).then_some(found)
        });
        // the configuration file exists and is not readable
        let file = file.unwrap_or_else(|| Some(SnapshotSettings::default()))?;
        let arguments = words.as_deref().map(of_arguments);
        let configured = combine(&file, &config_file, arguments.as_ref(), started_in.as_deref())?;
        let is_in_use = configured.dir == dir || is_same_file(io, process.pid, &configured.dir, &dir) == Some(true);
        Some(ConfiguredSnapshot { is_in_use, ..configured })
    };
    blocking::run("the configuration", &server.name, REPLY_TIMEOUT, read).await
}

/// The start arguments of a server and the directory in which it was started, as its container or its unit sets them. A running
/// server has replaced its arguments by a title.
pub(super) async fn start_of(cx: &ProbeCx, server: &ServerRef) -> (Option<Vec<String>>, Option<String>) {
    if let (Some(id), Some(docker)) = (&server.container, &cx.docker) {
        let directory = docker.working_directory(id).await.ok();
        let directory = directory.map(|d| if d.is_empty() { "/".to_owned() } else { d });
        return (docker.arguments(id).await.ok().filter(|words| starts_server(words)), directory);
    }
    let Some(unit) = &server.unit else { return (None, None) };
    let Ok(systemd) = cx.systemd() else { return (None, None) };
    let Ok(unit) = systemd.unit(unit).await else { return (None, None) };
    let words = unit.service.as_ref().map(|service| service.exec_start.clone());
    let directory = Some(unit.context.working_directory.clone()).filter(|d| !d.is_empty());
    (words.filter(|words| starts_server(words)), directory)
}

/// Whether these words start the server itself, not a script with a command line of its own.
fn starts_server(words: &[String]) -> bool {
    let is_server = |word: &str| word.ends_with("-server") || word.ends_with("dragonfly");
    // a shell expands or adds words
    if words.iter().any(|word| word.contains(['$', '`', '|', '&', ';', '\n'])) {
        return false;
    }
    words.first().is_some_and(|word| word.starts_with("--")) || words.iter().flat_map(|w| w.split_whitespace()).any(is_server)
}

pub(super) fn of_arguments(words: &[String]) -> SnapshotSettings {
    let words: Vec<&str> = words.iter().flat_map(|w| w.split_whitespace()).collect();
    let value = |option: &str| {
        let separate = |(at, word): (usize, &&str)| (*word == option).then(|| words.get(at + 1).copied()).flatten();
        let joined = |word: &&str| word.strip_prefix(option)?.strip_prefix('=').map(str::to_owned);
        let last = words.iter().enumerate().filter_map(separate).next_back().map(str::to_owned);
        last.or_else(|| words.iter().filter_map(joined).next_back()).map(|v| unquoted(&v))
    };
    SnapshotSettings { dir: value("--dir"), name: value("--dbfilename") }
}

pub(super) fn unquoted(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_owned()
}

/// Reads a configuration file and its includes; a later directive replaces an earlier one. False if the file is not readable.
fn include(io: &Io, pid: i32, path: &str, depth: usize, found: &mut SnapshotSettings) -> bool {
    let Some(text) = file_of(io, pid, path) else { return false };
    for (key, value) in directives(&text) {
        match key.to_ascii_lowercase().as_str() {
            "dir" => found.dir = Some(unquoted(value)),
            "dbfilename" => found.name = Some(unquoted(value)),
            "include" if depth > 0 && unquoted(value).starts_with('/') => {
                for file in files_of(io, pid, &unquoted(value)) {
                    include(io, pid, &file, depth - 1, found);
                }
            }
            _ => {}
        }
    }
    true
}

pub(super) fn directives(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(str::trim).filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once([' ', '\t']))
}

/// The settings in force at the start: arguments follow the configuration file. `None` without a known directory.
fn combine(
    file: &SnapshotSettings,
    config_file: &str,
    arguments: Option<&SnapshotSettings>,
    started_in: Option<&str>,
) -> Option<ConfiguredSnapshot> {
    let (source, dir) = match (arguments.and_then(|a| a.dir.as_deref()), &file.dir) {
        (Some(dir), _) => ("its start arguments", dir),
        (None, Some(dir)) => (config_file, dir.as_str()),
        // the default is the directory in which it was started
        (None, None) if arguments.is_some() => ("its working directory", "."),
        (None, None) => return None,
    };
    let dir = if dir.starts_with('/') {
        dir.to_owned()
    } else {
        let below: Vec<&str> = dir.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if below.contains(&"..") {
            return None;
        }
        format!("{}/{}", started_in?.trim_end_matches('/'), below.join("/"))
    };
    let dir = dir.trim_end_matches('/');
    let name = arguments.and_then(|a| a.name.clone()).or_else(|| file.name.clone());
    Some(ConfiguredSnapshot {
        source: source.to_owned(),
        dir: if dir.is_empty() { "/".to_owned() } else { dir.to_owned() },
        name: name.unwrap_or_else(|| DEFAULT_SNAPSHOT.to_owned()),
        is_in_use: false,
        is_complete: arguments.is_some(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn snapshot_settings_of_arguments() {
        let of = |text: &[&str]| {
            let found = of_arguments(&words(text));
            (found.dir.unwrap_or_default(), found.name.unwrap_or_default())
        };
        assert_eq!(of(&["redis-server", "--dir", "/a", "--dir", "/data"]), ("/data".to_owned(), String::new()));
        assert_eq!(of(&["-c", "redis-server --dir '/data' --dbfilename x.rdb"]), ("/data".to_owned(), "x.rdb".to_owned()));
        assert_eq!(of(&["--dir=/data"]), ("/data".to_owned(), String::new()));
        assert!(starts_server(&words(&["/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd"])));
        assert!(starts_server(&words(&["--appendonly", "yes"])));
        assert!(!starts_server(&words(&["/opt/start.sh"])) && !starts_server(&[]));
        assert!(!starts_server(&words(&["-c", "exec redis-server --dir $DATA"])));
    }

    #[test]
    fn arguments_follow_the_configuration_file() {
        let file = SnapshotSettings { dir: Some("/var/lib/redis".to_owned()), name: Some("x.rdb".to_owned()) };
        let none = SnapshotSettings::default();
        let path = "/etc/redis/redis.conf";
        let found = combine(&file, path, Some(&none), None).unwrap();
        assert_eq!((found.source.as_str(), found.dir.as_str(), found.name.as_str()), (path, "/var/lib/redis", "x.rdb"));
        assert!(found.is_complete && !combine(&file, path, None, None).unwrap().is_complete);
        let argument = SnapshotSettings { dir: Some("/data/".to_owned()), name: None };
        let found = combine(&file, path, Some(&argument), None).unwrap();
        assert_eq!((found.source.as_str(), found.dir.as_str()), ("its start arguments", "/data"));
        // the image's directory, a relative directory, no knowledge
        let dir = |file: &SnapshotSettings, arguments, started_in| combine(file, "", arguments, started_in).map(|c| c.dir);
        assert_eq!(dir(&none, Some(&none), Some("/data")).as_deref(), Some("/data"));
        let relative = SnapshotSettings { dir: Some("./".to_owned()), name: None };
        assert_eq!(dir(&relative, Some(&none), Some("/")).as_deref(), Some("/"));
        let below = SnapshotSettings { dir: Some("./db".to_owned()), name: None };
        assert_eq!(dir(&below, Some(&none), Some("/srv")).as_deref(), Some("/srv/db"));
        assert_eq!((dir(&relative, Some(&none), None), dir(&none, None, Some("/"))), (None, None));
    }

    #[test]
    fn configuration_directives_and_comments() {
        let text = "# dir /x\n  dir\t/var/lib/redis \nsave 900 1\nDbFilename \"a b.rdb\"\n";
        let found: Vec<_> = directives(text).collect();
        assert_eq!(found[0], ("dir", "/var/lib/redis"));
        assert_eq!((found.len(), unquoted(found[2].1)), (3, "a b.rdb".to_owned()));
    }

    #[test]
    fn configuration_of_another_port_is_ignored() {
        let text = "# requirepass no\nport 6380\nrequirepass \"canary-pass\"\n";
        let redactor = Redactor::default();
        assert!(configured(text, Some(6379), &redactor).is_none());
        assert_eq!(configured(text, Some(6380), &redactor).unwrap().password.unwrap().reveal(), "canary-pass");
        assert!(configured("requirepassx y\n", None, &redactor).is_none());
    }
}
