//! Sessions with a PostgreSQL server, or with a PgBouncer.
//!
//! Every query is one statement of the simple protocol, text in and text out: no prepared statements, which a pooler would mix
//! up. Results that become evidence are selected as JSON, so that a column that a version does not have is missing instead of an
//! error.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::cleartext::{self, NoCleartext};
use super::login::{Login, Secret, password, pgpass, pgpass_text, variable};
use super::peer::{PeerConnection, reach};
use super::postgres_rows::{for_version, is_missing_feature, row};
use super::tls::{self, Trust};
use super::{Bounded, CONNECT_TIMEOUT, ConnectAddr, ServerHandle, SessionError, Socket, Stream, connect_addrs, millis, user_of};
use crate::model::{Object, Product};
use crate::probe::io::accounts::name_of;
use crate::probe::proc::files::file_of;
use crate::probe::{Io, ProbeCx, ProbeError, Redactor, UNEXPECTED_FORMAT, blocking, environment};

/// Settings of a session: limits for statements and locks (judgement), and read-only transactions.
const SESSION_SETTINGS: &str = "SET statement_timeout = '3s'; SET lock_timeout = '1s'; SET default_transaction_read_only = on; \
                        SET idle_in_transaction_session_timeout = '10s'; SET search_path = pg_catalog";

/// Timeout of a login. The server forks a process for it, which takes time on a loaded machine.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of one query: a little longer than the statement timeout of the server.
const QUERY_TIMEOUT: Duration = Duration::from_secs(4);

/// A session. Concurrent queries are executed in order.
pub struct Session {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
    /// Listening address.
    pub address: String,
    /// Version as a number: 150018 is 15.18.
    pub version: u32,
    /// Role of the session.
    pub user: String,
    /// Database of the session.
    pub database: String,
    /// Source of the login.
    pub login: String,
    /// Whether the server is another product with the protocol of PostgreSQL, which lacks parts of its catalogue.
    pub is_fork: bool,
    /// Users of logins that the server rejected before: its log contains them like those of other clients.
    pub rejected_users: Vec<String>,
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

/// Reasons for having no result of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresError {
    /// An error of the server: SQLSTATE and message.
    Server {
        /// Five characters.
        sqlstate: String,
        /// Message.
        message: String,
    },
    /// Timeout, or a closed connection.
    Lost(String),
}

impl std::fmt::Display for PostgresError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server { message, .. } => f.write_str(message),
            Self::Lost(why) => f.write_str(why),
        }
    }
}

impl Session {
    /// Rows of a query, each deserialized from its columns by name. A row of another shape is an error.
    pub async fn rows<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, PostgresError> {
        match self.rows_one_by_one(query).await? {
            (rows, 0) => Ok(rows),
            _ => Err(PostgresError::Lost(format!("invalid reply: {UNEXPECTED_FORMAT}"))),
        }
    }

    /// Rows of a query, each deserialized from its columns by name, and the number of rows of another shape.
    pub async fn rows_one_by_one<T: DeserializeOwned>(&self, query: &str) -> Result<(Vec<T>, usize), PostgresError> {
        let query = for_version(query, self.major());
        let lines = self.texts(&format!("SELECT row_to_json(answer)::text FROM ({query}) AS answer")).await?;
        let rows: Vec<T> = lines.iter().filter_map(|line| row(line)).collect();
        let odd = lines.len() - rows.len();
        Ok((rows, odd))
    }

    /// Whether an error means that the server, by its product or version, does not have the queried object.
    #[must_use]
    pub fn lacks(&self, error: &PostgresError) -> bool {
        let PostgresError::Server { sqlstate, .. } = error else { return false };
        // PostgreSQL itself has everything that is queried: there, an undefined name is an error of opsctl
        is_missing_feature(sqlstate) && (self.is_fork || self.major() < 10 || sqlstate == "0A000")
    }

    /// The only row of a query.
    pub async fn row<T: DeserializeOwned>(&self, query: &str) -> Result<T, PostgresError> {
        self.rows(query).await?.into_iter().next().ok_or_else(|| PostgresError::Lost("empty result".to_owned()))
    }

    /// First column of every row.
    async fn texts(&self, sql: &str) -> Result<Vec<String>, PostgresError> {
        let messages = self.execute(sql).await?;
        let first = |m: SimpleQueryMessage| match m {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(first).collect())
    }

    /// Rows of a command other than a query, such as `SHOW POOLS`, by column name.
    pub async fn show(&self, command: &str) -> Result<Vec<std::collections::BTreeMap<String, String>>, PostgresError> {
        let messages = self.execute(command).await?;
        let named = |m: SimpleQueryMessage| match m {
            SimpleQueryMessage::Row(row) => {
                let column = |(i, c): (usize, &tokio_postgres::SimpleColumn)| Some((c.name().to_owned(), row.get(i)?.to_owned()));
                Some(row.columns().iter().enumerate().filter_map(column).collect())
            }
            _ => None,
        };
        Ok(messages.into_iter().filter_map(named).collect())
    }

    /// Executes one statement.
    pub async fn execute(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, PostgresError> {
        match tokio::time::timeout(QUERY_TIMEOUT, self.client.simple_query(sql)).await {
            Ok(Ok(messages)) => Ok(messages),
            Ok(Err(e)) => Err(no_answer(&e)),
            Err(_) => Err(PostgresError::Lost(format!("no answer within {} s", QUERY_TIMEOUT.as_secs()))),
        }
    }

    /// Major version: 13, 14, …
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version / 10000
    }
}

/// A separate session with another database of a server: its tables are not visible from the shared one. Closed when dropped.
pub async fn in_database(cx: &ProbeCx, target: &Object, database: &str) -> Result<Result<Session, SessionError>, ProbeError> {
    let session = match Box::pin(open(cx.servers().known(target)?, cx, Some(database))).await? {
        Ok(session) => session,
        Err(why) => return Ok(Err(why)),
    };
    if session.database == database {
        return Ok(Ok(session));
    }
    let message = format!("there is no database {database}");
    Ok(Err(SessionError::Rejected { address: session.address.clone(), code: "3D000".to_owned(), message }))
}

/// Result of a statement with one row and one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// First column of the first row, as text; `None` is NULL.
    One(Option<String>),
    /// No row.
    Empty,
    /// More than one row.
    Several,
}

/// Result of a custom query, on a separate connection because it may be slow and must not delay other checks. The server executes
/// one statement, in a read-only transaction, and cancels it after `time_limit`.
pub async fn value(
    cx: &ProbeCx,
    target: &Object,
    database: Option<&str>,
    query: &str,
    time_limit: Duration,
) -> Result<Result<Value, QueryError>, ProbeError> {
    let known = cx.servers().known(target)?;
    let session = match Box::pin(open(known, cx, database)).await? {
        Ok(session) => session,
        Err(why) => return Ok(Err(QueryError::NoSession(why))),
    };
    if let Some(database) = database.filter(|d| *d != session.database) {
        let message = format!("there is no database {database}");
        return Ok(Err(QueryError::Failed(PostgresError::Server { sqlstate: "3D000".to_owned(), message })));
    }
    let failed = |e: tokio_postgres::Error| QueryError::Failed(no_answer(&e));
    let limit = format!("SET statement_timeout = '{}ms'", time_limit.as_millis().max(1));
    if let Err(why) = session.execute(&limit).await {
        return Ok(Err(QueryError::Failed(why)));
    }
    // the extended protocol accepts one statement only; the line break ends a comment
    let sql = format!("SELECT answer.v::text FROM ({}\n) AS answer(v) LIMIT 2", query.trim().trim_end_matches(';'));
    let rows = match session.client.query_typed(&sql, &[]).await.map_err(failed) {
        Ok(rows) => rows,
        Err(why) => return Ok(Err(why)),
    };
    Ok(match rows.as_slice() {
        [] => Ok(Value::Empty),
        [row] => row.try_get(0).map(Value::One).map_err(failed),
        _ => Ok(Value::Several),
    })
}

/// Reasons for having no result of a custom query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// There is no session.
    NoSession(SessionError),
    /// The query failed.
    Failed(PostgresError),
}

fn no_answer(error: &tokio_postgres::Error) -> PostgresError {
    match error.as_db_error() {
        Some(e) => PostgresError::Server { sqlstate: e.code().code().to_owned(), message: e.message().to_owned() },
        None => PostgresError::Lost(error.to_string()),
    }
}

/// Connects and logs in, to `database` if one is given: each login once, until one is accepted.
pub(super) async fn open(
    known: &ServerHandle,
    cx: &ProbeCx,
    database: Option<&str>,
) -> Result<Result<Session, SessionError>, ProbeError> {
    let mut addrs = match connect_addrs(known).await {
        Ok(addrs) => addrs,
        Err(why) => return Ok(Err(why)),
    };
    let mut logins = logins(known, cx).await?;
    if let Some(database) = database {
        for login in &mut logins {
            login.database = Some(database.to_owned());
        }
    }
    let peer = match known.server.process {
        Some(process) => blocking::run("a user", "/proc", CONNECT_TIMEOUT, move |io| user_of(io, process.pid)).await?,
        None => None,
    };
    for addr in &mut addrs {
        if matches!(addr.socket, Socket::Unix(_)) {
            addr.user = peer;
        }
    }
    let mut last = SessionError::NotListening;
    let mut rejected_users = Vec::new();
    'addrs: for addr in &addrs {
        for login in logins.iter().take(4) {
            last = match log_in(addr, login, known, cx).await? {
                Ok(mut session) => {
                    session.rejected_users = rejected_users;
                    return Ok(Ok(session));
                }
                // another login, or another socket, may be accepted
                Err(why @ (SessionError::Login { .. } | SessionError::Unproven { .. })) => {
                    rejected_users.extend(login.user.clone());
                    why
                }
                Err(why @ SessionError::Refused { .. }) => {
                    last = why.or(last);
                    continue 'addrs;
                }
                Err(why) => return Ok(Err(why)),
            };
        }
    }
    Ok(Err(last))
}

/// Available logins for this server, the most deliberate first.
async fn logins(known: &ServerHandle, cx: &ProbeCx) -> Result<Vec<Login>, ProbeError> {
    let started_with = cx.environment_of(&known.server).await;
    let (known, redactor) = (known.clone(), cx.redactor.clone());
    let from = known.server.name.clone();
    blocking::run("a login", &from, CONNECT_TIMEOUT, move |io| logins_now(io, &known, &started_with, &redactor)).await
}

fn logins_now(io: &Io, known: &ServerHandle, started_with: &[String], redactor: &Redactor) -> Vec<Login> {
    let mut logins: Vec<Login> = known.login.iter().filter(|l| l.user.is_some() || l.password.is_some()).cloned().collect();
    let pid = known.server.process.map(|p| p.pid);
    let bouncer = known.server.product == Product::Pgbouncer;
    if bouncer {
        // its console accepts the user that it runs as over its unix socket, under this name
        logins.push(Login::user("pgbouncer", "its own user"));
    }
    let role =
        variable(started_with, "POSTGRES_USER").or_else(|| variable(started_with, "POSTGRESQL_USERNAME")).map(str::to_owned);
    let owner = pid.and_then(|pid| owner_name(io, pid, user_of(io, pid)?.0));
    let words =
        password(io, started_with, &["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD", "POSTGRESQL_POSTGRES_PASSWORD"], pid, redactor);
    let database =
        variable(started_with, "POSTGRES_DB").or_else(|| variable(started_with, "POSTGRESQL_DATABASE")).map(str::to_owned);
    if !bouncer && (pid.is_some() || role.is_some() || words.is_some()) {
        let user = role.clone().or_else(|| owner.clone().filter(|o| o != "root")).unwrap_or_else(|| "postgres".to_owned());
        let from = match &words {
            Some((_, name)) => format!("{name} of its container"),
            None => "the user it runs as".to_owned(),
        };
        logins.push(Login { password: words.map(|(p, _)| p), database, ..Login::user(user, from) });
    }
    // libpq: PGUSER, PGPASSWORD, then ~/.pgpass; each only for the server that libpq would connect to with it
    let user = environment("PGUSER").or(role).unwrap_or_else(|| "postgres".to_owned());
    let libpq_database = environment("PGDATABASE");
    if names_no_host(known)
        && let Some(password) = environment("PGPASSWORD")
    {
        let password = Some(Secret::new(password, redactor));
        logins.push(Login { password, database: libpq_database.clone(), ..Login::user(user.clone(), "PGPASSWORD") });
    }
    if let Some(text) = pgpass_text(io) {
        let file = PgpassFile { text, hosts: hosts(known), port: port(known) };
        let found = |user: &str, database: Option<&str>| {
            let password = file.password(database.unwrap_or(user), user)?;
            Some(Secret::new(password, redactor))
        };
        // for a user configured without a password, the password is looked up in this file
        for login in logins.iter_mut().filter(|l| l.password.is_none()) {
            if let Some(password) = login.user.as_deref().and_then(|u| found(u, login.database.as_deref())) {
                login.password = Some(password);
                "~/.pgpass".clone_into(&mut login.from);
            }
        }
        if let Some(password) = found(&user, libpq_database.as_deref()) {
            logins.push(Login { password: Some(password), database: libpq_database, ..Login::user(user, "~/.pgpass") });
        }
    }
    if logins.is_empty() {
        logins.push(Login::user("postgres", "the default user"));
    }
    let mut seen: Vec<Login> = Vec::new();
    for login in logins {
        if !seen.iter().any(|s| s.user == login.user && s.password == login.password) {
            seen.push(login);
        }
    }
    seen
}

/// Whether libpq connects to this server without a host name: the one of this host at `PGPORT`. Where `PGHOST` or a service names
/// a host, its login belongs to that server.
fn names_no_host(known: &ServerHandle) -> bool {
    let named = ["PGHOST", "PGHOSTADDR", "PGSERVICE"].iter().any(|v| environment(v).is_some_and(|v| !v.is_empty()));
    let at = environment("PGPORT").and_then(|p| p.parse().ok()).unwrap_or(5432);
    !named && known.is_at_default(at)
}

/// `~/.pgpass` and the names under which a server may be listed in it.
struct PgpassFile {
    text: String,
    hosts: Vec<String>,
    port: u16,
}

impl PgpassFile {
    fn password(&self, database: &str, user: &str) -> Option<String> {
        self.hosts.iter().find_map(|host| pgpass(&self.text, host, self.port, database, user))
    }
}

/// Host names by which clients of this host reach a server: its configured address, and `localhost` and its addresses for one
/// that runs on this host itself. A server in another network namespace has none: its 127.0.0.1 is another address.
fn hosts(known: &ServerHandle) -> Vec<String> {
    let configured = known.server.address.iter().map(|(host, _)| host.clone());
    if known.server.process.is_some() && (known.is_local != Some(true) || known.server.container.is_some()) {
        return configured.collect();
    }
    let tcp = known.sockets.iter().filter_map(|s| match s {
        Socket::Tcp(address) => Some(address.ip().to_string()),
        Socket::Unix(_) => None,
    });
    let own = known.server.process.map(|_| "localhost".to_owned());
    configured.chain(own).chain(tcp).collect()
}

fn port(known: &ServerHandle) -> u16 {
    let tcp = super::tcp_port(&known.sockets);
    known.server.address.as_ref().map(|(_, port)| *port).or(tcp).unwrap_or_else(|| super::default_port(known.server.product))
}

/// Name of a user inside the container of the process: the host does not know the users of a container.
fn owner_name(io: &Io, pid: i32, uid: u32) -> Option<String> {
    name_of(file_of(io, pid, "/etc/passwd")?.as_bytes(), uid)
}

async fn log_in(
    addr: &ConnectAddr,
    login: &Login,
    known: &ServerHandle,
    cx: &ProbeCx,
) -> Result<Result<Session, SessionError>, ProbeError> {
    let bouncer = known.server.product == Product::Pgbouncer;
    let database = login.database.clone().unwrap_or_else(|| if bouncer { "pgbouncer".to_owned() } else { "postgres".to_owned() });
    match connect(addr, login, known, &database).await? {
        Ok(session) if bouncer || login.database.is_some() => Ok(Ok(session)),
        Ok(session) => {
            // tables are visible from within their database only: the busiest database is more useful than the administrative one
            match busiest(&session).await.filter(|d| *d != session.database) {
                Some(database) => {
                    // one connection at a time
                    drop(session);
                    match connect(addr, login, known, &database).await? {
                        Ok(session) => Ok(Ok(session)),
                        Err(_) => connect(addr, login, known, "postgres").await,
                    }
                }
                None => Ok(Ok(session)),
            }
        }
        Err(why @ SessionError::Login { .. }) => {
            cx.redactor.register_name(&known.server.name);
            Ok(Err(why))
        }
        // 3D000: the server is up, and only this database does not exist
        Err(SessionError::Rejected { code, .. }) if code == SqlState::INVALID_CATALOG_NAME.code() && database != "template1" => {
            connect(addr, login, known, "template1").await
        }
        Err(why) => Ok(Err(why)),
    }
}

/// Database with the most activity.
async fn busiest(session: &Session) -> Option<String> {
    let sql = "SELECT datname FROM pg_stat_database WHERE datname NOT IN ('postgres') AND datname NOT LIKE 'template%' \
               AND has_database_privilege(datname, 'CONNECT') ORDER BY tup_returned + tup_fetched + tup_inserted + tup_updated DESC, datname LIMIT 1";
    session.texts(sql).await.ok()?.into_iter().next()
}

/// Reason for not sending a password in clear text over TCP to a proven server.
const UNPROTECTED: &str = "the connection is neither a unix socket nor verified TLS";

async fn connect(
    addr: &ConnectAddr,
    login: &Login,
    known: &ServerHandle,
    database: &str,
) -> Result<Result<Session, SessionError>, ProbeError> {
    let bouncer = known.server.product == Product::Pgbouncer;
    let address = addr.address();
    // a remote server gets a proof of the password only (SCRAM), in spite of the doubt
    let PeerConnection { stream, doubt } = match reach(addr, known, login.tls.as_ref()).await? {
        Ok(reached) => reached,
        Err(why) => return Ok(Err(why)),
    };
    let unix = matches!(addr.socket, Socket::Unix(_));
    let secured = async {
        let trust = login.tls.as_ref();
        if unix { Ok((stream, None)) } else { secure(stream, known.host(), trust).await.map(|s| (s, trust)) }
    };
    let (stream, trust) = match tokio::time::timeout(LOGIN_TIMEOUT, secured).await {
        Err(_) => return Ok(Err(SessionError::Hung { address, after_ms: millis(LOGIN_TIMEOUT) })),
        Ok(Err(e)) => return Ok(Err(SessionError::insecure(address, &e))),
        Ok(Ok(secured)) => secured,
    };
    let verified = trust.is_some_and(Trust::proves) && matches!(stream, Stream::Tls(_));
    let user = login.user.clone().unwrap_or_else(|| "postgres".to_owned());
    let mut config = Config::new();
    // TLS is established: tokio-postgres sees the plain protocol
    config.user(&user).dbname(database).application_name("opsctl").ssl_mode(SslMode::Disable);
    if let Some(password) = &login.password {
        config.password(password.reveal());
    }
    let stream = NoCleartext::new(Bounded::new(stream), verified || unix);
    let (client, connection) = match tokio::time::timeout(LOGIN_TIMEOUT, config.connect_raw(stream, NoTls)).await {
        Err(_) => return Ok(Err(SessionError::Hung { address, after_ms: millis(LOGIN_TIMEOUT) })),
        Ok(Err(e)) if with_sources(&e).contains(cleartext::REFUSED) => {
            let why = format!("{}, and {}", cleartext::REFUSED, doubt.as_deref().unwrap_or(UNPROTECTED));
            return Ok(Err(SessionError::Unproven { address, why }));
        }
        Ok(Err(e)) => return Ok(Err(refusal(address, &e, login))),
        Ok(Ok(pair)) => pair,
    };
    let reported = connection.parameter("server_version").unwrap_or_default();
    let version = version_number(reported).unwrap_or(0);
    // YugabyteDB: `15.2-YB-2025.1.0.0-b0`; CockroachDB has a parameter of its own
    let is_fork = reported.contains("-YB-") || connection.parameter("crdb_version").is_some();
    let driver = tokio::spawn(async move {
        // the next query reports the end of the connection
        let _ = connection.await;
    });
    let session = Session {
        client,
        driver,
        address,
        version,
        user,
        database: database.to_owned(),
        login: login.from.clone(),
        is_fork,
        rejected_users: Vec::new(),
    };
    if !bouncer && let Err(PostgresError::Lost(why)) = session.execute(SESSION_SETTINGS).await {
        return Ok(Err(SessionError::Closed { address: session.address.clone(), why }));
    }
    Ok(Ok(session))
}

/// Requests TLS (`SSLRequest`: PostgreSQL, "SSL Session Encryption") according to `sslmode`: required with a [`Trust`], otherwise
/// if the server offers it.
async fn secure(mut stream: Stream, host: &str, trust: Option<&Trust>) -> std::io::Result<Stream> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => tls::over_tls(stream, host, trust.unwrap_or(&Trust::Encrypted)).await,
        // an additional byte would be injected before the handshake (CVE-2021-23222); an error message means that TLS is not
        // supported
        b'N' if trust.is_none() => Ok(stream),
        b'N' => Err(std::io::Error::other("the server does not offer TLS")),
        other => {
            let why = format!("unexpected reply {other:#04x} to a request for TLS");
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why))
        }
    }
}

/// Parses `15.18 (Debian 15.18-0+deb12u1)`, `16beta1`, `1.22.0/bouncer`.
pub(super) fn version_number(text: &str) -> Option<u32> {
    let number = |t: &str| t.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().ok();
    let (major, rest) = text.split_once('.').unwrap_or((text, ""));
    number(major)?.checked_mul(10_000)?.checked_add(number(rest).unwrap_or(0))
}

fn refusal(address: String, error: &tokio_postgres::Error, login: &Login) -> SessionError {
    if let Some(db_error) = error.as_db_error() {
        let (code, message) = (db_error.code().code().to_owned(), db_error.message().to_owned());
        // class 28: invalid authorization; 42501: no CONNECT privilege
        return if code.starts_with("28") || code == SqlState::INSUFFICIENT_PRIVILEGE.code() {
            SessionError::Login { address, message, tried: Some(login.from.clone()) }
        } else if code == "08P01" && message.contains("password") {
            // PgBouncer's code for it
            SessionError::Login { address, message, tried: Some(login.from.clone()) }
        } else {
            SessionError::Rejected { address, code, message }
        };
    }
    let why = with_sources(error);
    if why.contains("password missing") || why.contains("authentication") {
        // the redactor would remove parts of the library's text, which looks like a password
        let message = if why.contains("missing") { "authentication is required".to_owned() } else { why };
        return SessionError::Login { address, message, tried: None };
    }
    if why.contains("bytes remaining") {
        return SessionError::Closed { address, why: "the connection ended in the middle of a reply".to_owned() };
    }
    if error.is_closed() || why.contains("closed") || why.contains("reset") || why.contains("eof") {
        SessionError::Closed { address, why }
    } else {
        SessionError::Garbage { address, why }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_version_becomes_a_number() {
        assert_eq!(version_number("15.18 (Debian 15.18-0+deb12u1)"), Some(150_018));
        assert_eq!(version_number("16beta1"), Some(160_000));
        assert_eq!(version_number("1.22.0/bouncer"), Some(10_022));
        assert_eq!(version_number("garbage"), None);
    }
}
