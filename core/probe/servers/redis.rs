//! One conversation with a server that speaks the Redis protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError};

use super::login::{Login, Secret, password};
use super::peer::{Doubt, Reached, reach};
use super::tls::Trust;
use super::{ANSWER, Bounded, Known, NoSession, Way, file_of, millis, tls, ways};
use crate::probe::{Io, Memo, ProbeCx, ProbeError, Redactor, blocking, environment};

/// Variables of images and deployments that hold the password.
const PASSWORDS: &[&str] = &["REDIS_PASSWORD", "VALKEY_PASSWORD", "KEYDB_PASSWORD", "REDISCLI_AUTH"];

/// Where distributions and images keep the configuration.
const CONFIGURATIONS: &[&str] = &[
    "/etc/redis/redis.conf",
    "/etc/redis.conf",
    "/etc/valkey/valkey.conf",
    "/usr/local/etc/redis/redis.conf",
    "/usr/local/etc/valkey/valkey.conf",
];

/// What a server said instead of an answer: its first word, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// `LOADING`, `NOAUTH`, `MISCONF`, `NOPERM`, `ERR`, …
    pub code: String,
    /// In its own words.
    pub message: String,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The server said no.
    Said(Said),
    /// It said nothing in time, closed, or spoke something else.
    Lost(NoSession),
}

/// A session. Questions may be asked side by side.
pub struct Session {
    connection: MultiplexedConnection,
    /// Where it listens.
    pub address: String,
    /// Whether it answers anybody who can connect.
    pub without_login: bool,
    /// What it says to PING instead of PONG, code and message.
    pub refuses: Option<(String, String)>,
    info: Memo<(), Result<Arc<Info>, NoAnswer>>,
    driver: tokio::task::JoinHandle<()>,
}

/// `INFO` by its keys.
pub type Info = BTreeMap<String, String>;

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
    /// Asks one thing.
    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, NoAnswer> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let mut connection = self.connection.clone();
        match tokio::time::timeout(ANSWER, command.query_async(&mut connection)).await {
            Ok(result) => result.map_err(|e| no_answer(&self.address, &e)),
            Err(_) => Err(NoAnswer::Lost(NoSession::Hung { address: self.address.clone(), after_ms: millis(ANSWER) })),
        }
    }

    /// Asks several things of one database, in order and with nothing of other checks between; what it says no to is left out.
    pub async fn ask_in<T: FromRedisValue>(&self, database: u32, questions: &[Vec<&[u8]>]) -> Result<Vec<Option<T>>, NoAnswer> {
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
        let lost = |why| NoAnswer::Lost(why);
        let answers: Vec<Result<redis::Value, RedisError>> =
            match tokio::time::timeout(ANSWER, pipe.query_async(&mut connection)).await {
                Ok(result) => result.map_err(|e| no_answer(&self.address, &e))?,
                Err(_) => return Err(lost(NoSession::Hung { address: self.address.clone(), after_ms: millis(ANSWER) })),
            };
        Ok(answers.into_iter().skip(1).map(|a| a.ok().and_then(|v| T::from_redis_value(v).ok())).collect())
    }

    /// What one question of somebody's own answers, in one database.
    pub async fn reply(&self, database: u32, words: &[&str]) -> Result<Reply, NoAnswer> {
        let mut pipe = redis::pipe();
        pipe.ignore_errors().cmd("SELECT").arg(database);
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        pipe.add_command(command);
        let mut connection = self.connection.clone();
        let answers: Vec<Result<redis::Value, RedisError>> =
            match tokio::time::timeout(ANSWER, pipe.query_async(&mut connection)).await {
                Ok(result) => result.map_err(|e| no_answer(&self.address, &e))?,
                Err(_) => {
                    return Err(NoAnswer::Lost(NoSession::Hung { address: self.address.clone(), after_ms: millis(ANSWER) }));
                }
            };
        let mut last = Reply::Nothing;
        for answer in answers {
            last = Reply::of(answer.map_err(|e| no_answer(&self.address, &e))?);
        }
        Ok(last)
    }

    /// `INFO` with the counts of errors where the server has them; read once.
    pub async fn info(&self) -> Result<Arc<Info>, NoAnswer> {
        self.info.get((), || async { self.info_now().await.map(Arc::new) }).await
    }

    /// The same, read again.
    pub async fn info_now(&self) -> Result<Info, NoAnswer> {
        let text: Vec<u8> = self.ask(&["INFO"]).await?;
        let mut info = parse_info(&String::from_utf8_lossy(&text));
        // 6.2; others answer with nothing
        if let Ok(text) = self.ask::<Vec<u8>>(&["INFO", "errorstats"]).await {
            info.extend(parse_info(&String::from_utf8_lossy(&text)));
        }
        Ok(info)
    }

    /// One setting; none when it has no such setting or keeps it to itself.
    pub async fn setting(&self, name: &str) -> Option<String> {
        let pair: Vec<String> = self.ask(&["CONFIG", "GET", name]).await.ok()?;
        pair.into_iter().nth(1)
    }
}

/// `key:value` lines; headings and what is not such a line are left out.
#[must_use]
pub fn parse_info(text: &str) -> Info {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim_end().to_owned())).collect()
}

/// The answer to a question of somebody's own.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// There is no such key or field.
    Nothing,
    /// A number.
    Number(f64),
    /// A text, its beginning.
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

/// Any answer.
pub struct Any;

impl FromRedisValue for Any {
    fn from_redis_value(_: redis::Value) -> Result<Self, redis::ParsingError> {
        Ok(Self)
    }
}

/// A command that took long: an entry of `SLOWLOG GET`. Its arguments are other people's data and are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowEntry {
    /// Name of the command.
    pub command: String,
    /// How long it took, in microseconds.
    pub micros: u64,
}

impl FromRedisValue for SlowEntry {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        // id, time, duration, arguments, and since 4.0 address and name
        let fields: Vec<redis::Value> = redis::from_redis_value(value)?;
        let mut fields = fields.into_iter().skip(2);
        let micros = fields.next().map(redis::from_redis_value::<u64>).transpose()?.unwrap_or(0);
        let words: Vec<Vec<u8>> = fields.next().map(redis::from_redis_value).transpose()?.unwrap_or_default();
        let command = words.first().map(|w| String::from_utf8_lossy(w).to_uppercase()).unwrap_or_default();
        Ok(Self { command, micros })
    }
}

fn no_answer(address: &str, error: &RedisError) -> NoAnswer {
    if let Some(code) = error.code().filter(|_| matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)) {
        return NoAnswer::Said(Said { code: code.to_owned(), message: error.detail().unwrap_or_default().to_owned() });
    }
    let (address, why) = (address.to_owned(), error.to_string());
    NoAnswer::Lost(match error.kind() {
        // an answer that breaks off is one, as far as it goes
        ErrorKind::Parse if why.contains("end of input") => {
            NoSession::Closed { address, why: "it broke off in the middle of an answer".to_owned() }
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => NoSession::Garbage { address, why },
        _ => NoSession::Closed { address, why },
    })
}

/// Connects, logs in if need be, and hears whether it answers.
pub(super) async fn open(known: &Known, cx: &ProbeCx) -> Result<Result<Session, NoSession>, ProbeError> {
    let ways = match ways(known).await {
        Ok(ways) => ways,
        Err(why) => return Ok(Err(why)),
    };
    let mut last = NoSession::NotListening;
    for way in &ways {
        last = match over(way, known, cx).await? {
            Ok(session) => return Ok(Ok(session)),
            // another socket of the same server answers no better, but another server's may stand first
            Err(why @ (NoSession::Refused { .. } | NoSession::Unproven { .. })) => why.or(last),
            Err(why) => return Ok(Err(why)),
        };
    }
    Ok(Err(last))
}

async fn over(way: &Way, known: &Known, cx: &ProbeCx) -> Result<Result<Session, NoSession>, ProbeError> {
    let trust = known.trust();
    let session = match start(way, known, trust).await? {
        Ok((session, doubt)) => greet(session, doubt, known, trust, cx).await?,
        Err(why) => return Ok(Err(why)),
    };
    // what answers a plain question with nonsense or the end may be waiting for a handshake
    if trust.is_some() || !matches!(session, Err(NoSession::Garbage { .. } | NoSession::Closed { .. })) {
        return Ok(session);
    }
    let encrypted = Some(&Trust::Encrypted);
    match start(way, known, encrypted).await? {
        Ok((session, doubt)) => greet(session, doubt, known, encrypted, cx).await,
        // what a server that does not speak TLS either says to a plain question
        Err(_) => match start(way, known, None).await? {
            Ok((session, doubt)) => greet(session, doubt, known, None, cx).await,
            Err(why) => Ok(Err(why)),
        },
    }
}

/// A conversation that has begun, and why it gets no password.
type Begun = (Session, Option<Doubt>);

async fn start(way: &Way, known: &Known, trust: Option<&Trust>) -> Result<Result<Begun, NoSession>, ProbeError> {
    let address = way.address();
    let Reached { stream, doubt } = match reach(way, known, trust).await? {
        Ok(reached) => reached,
        Err(why) => return Ok(Err(why)),
    };
    let stream = match trust {
        Some(trust) => match tokio::time::timeout(ANSWER, tls::over_tls(stream, known.host(), trust)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Ok(Err(NoSession::insecure(address, &e))),
            Err(_) => return Ok(Err(NoSession::Hung { address, after_ms: millis(ANSWER) })),
        },
        None => stream,
    };
    // nothing is sent of its own accord: every command of ours is one we mean
    let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    match MultiplexedConnection::new_with_config(&plain, Bounded::new(stream), config).await {
        Ok((connection, driver)) => {
            let driver = tokio::spawn(driver);
            let session = Session { connection, address, without_login: false, refuses: None, info: Memo::default(), driver };
            Ok(Ok((session, doubt)))
        }
        Err(e) => Ok(Err(NoSession::Closed { address, why: e.to_string() })),
    }
}

/// Hears whether it answers, and logs in when it wants that.
async fn greet(
    mut session: Session,
    doubt: Option<Doubt>,
    known: &Known,
    trust: Option<&Trust>,
    cx: &ProbeCx,
) -> Result<Result<Session, NoSession>, ProbeError> {
    let wanted = match ping(&session).await {
        Ok(()) => {
            session.without_login = true;
            return Ok(Ok(session));
        }
        Err(NoAnswer::Lost(why)) => return Ok(Err(why)),
        // protected mode: it talks to nobody from elsewhere, and hangs up
        Err(NoAnswer::Said(said)) if said.code == "DENIED" => {
            let address = session.address.clone();
            return Ok(Err(NoSession::Rejected { address, code: said.code, message: said.message }));
        }
        Err(NoAnswer::Said(said)) if matches!(said.code.as_str(), "NOAUTH" | "NOPERM" | "WRONGPASS") => said,
        // it refuses work, and still tells about itself
        Err(NoAnswer::Said(said)) => {
            session.without_login = true;
            session.refuses = Some((said.code, said.message));
            return Ok(Ok(session));
        }
    };
    let refused = |session: &Session, said: Said, tried: Option<String>| NoSession::Login {
        address: session.address.clone(),
        message: format!("{} {}", said.code, said.message),
        tried,
    };
    let logins = logins(known, cx).await?;
    if logins.is_empty() {
        return Ok(Err(refused(&session, wanted, None)));
    }
    // AUTH sends the password as it is
    if !trust.is_some_and(Trust::proves)
        && let Some(doubt) = doubt
    {
        return Ok(Err(NoSession::Unproven { address: session.address.clone(), why: doubt }));
    }
    let mut last = refused(&session, wanted, None);
    for login in logins.iter().take(3) {
        let mut words: Vec<&str> = vec!["AUTH"];
        words.extend(login.user.as_deref());
        words.push(login.password.as_ref().map_or("", Secret::reveal));
        match session.ask::<redis::Value>(&words).await {
            Ok(_) => {
                return Ok(match ping(&session).await {
                    Err(NoAnswer::Lost(why)) => Err(why),
                    Err(NoAnswer::Said(said)) if said.code == "NOAUTH" => Err(refused(&session, said, Some(login.from.clone()))),
                    // whatever else it refuses, it knows us now
                    Err(NoAnswer::Said(said)) => {
                        session.refuses = Some((said.code, said.message));
                        Ok(session)
                    }
                    Ok(()) => Ok(session),
                });
            }
            Err(NoAnswer::Said(said)) => last = refused(&session, said, Some(login.from.clone())),
            Err(NoAnswer::Lost(why)) => return Ok(Err(why)),
        }
    }
    Ok(Err(last))
}

async fn ping(session: &Session) -> Result<(), NoAnswer> {
    session.ask::<redis::Value>(&["PING"]).await.map(|_| ())
}

/// The logins there are for this server, the most deliberate first.
async fn logins(known: &Known, cx: &ProbeCx) -> Result<Vec<Login>, ProbeError> {
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
    logins.extend(blocking::run("a login", &from, ANSWER, read).await?);
    // redis-cli sends it to 127.0.0.1:6379 where no other address is given
    if known.is_at_default(6379)
        && let Some(password) = environment("REDISCLI_AUTH")
    {
        let password = Some(Secret::new(password, &cx.redactor));
        logins.push(Login { password, from: "REDISCLI_AUTH".to_owned(), ..Login::default() });
    }
    Ok(logins)
}

/// The logins in the environment and in the files of a process.
fn of_process(io: &Io, pid: Option<i32>, port: Option<u16>, environment: &[String], redactor: &Redactor) -> Vec<Login> {
    let mut logins = Vec::new();
    if let Some((password, name)) = password(io, environment, PASSWORDS, pid, redactor) {
        logins.push(Login { password: Some(password), from: format!("{name} of its container"), ..Login::default() });
    }
    for path in CONFIGURATIONS {
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

/// `requirepass` of a configuration file, if the file is of the server on this port.
pub(super) fn configured(text: &str, port: Option<u16>, redactor: &Redactor) -> Option<Login> {
    let setting = |name: &str| {
        let value = text.lines().filter_map(|l| l.trim().strip_prefix(name)).find(|rest| rest.starts_with([' ', '\t']))?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    if let (Some(theirs), Some(ours)) = (setting("port").and_then(|p| p.parse::<u16>().ok()), port)
        && theirs != ours
    {
        return None;
    }
    let password = setting("requirepass").filter(|p| !p.is_empty())?;
    Some(Login { password: Some(Secret::new(password, redactor)), ..Login::default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn info_is_read_by_key_whatever_else_is_in_it() {
        let info = parse_info(
            "# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/redis-server\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\nnonsense\r\n",
        );
        assert_eq!(info.len(), 3);
        assert_eq!(info["db0"], "keys=1,expires=0");
    }

    #[test]
    fn a_configuration_of_another_port_is_another_server_s() {
        let text = "# requirepass no\nport 6380\nrequirepass \"canary-pass\"\n";
        let redactor = Redactor::default();
        assert!(configured(text, Some(6379), &redactor).is_none());
        assert_eq!(configured(text, Some(6380), &redactor).unwrap().password.unwrap().reveal(), "canary-pass");
        assert!(configured("requirepassx y\n", None, &redactor).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\PC|\n)*") {
            let _ = (parse_info(&text), configured(&text, Some(1), &Redactor::default()));
        }
    }
}
