//! Servers with an HTTP API (Prometheus, Alertmanager, Loki, Grafana, MinIO and others). Each path is requested once per run, from the
//! network namespace of the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::peer::{PeerConnection, reach, reach_process};
use super::sockets::Namespaces;
use super::{
    CONNECT_TIMEOUT, ConnectAddr, ServerHandle, SessionError, Socket, Trust, connect_addrs, default_port, millis, over_tls,
};
use crate::model::address::{Address, split_port};
use crate::model::{Kind, Object, Product, ServerProcess};
use crate::probe::io::http;
use crate::probe::io::http::HttpResponse;
use crate::probe::proc::files::file_of;
use crate::probe::proc::process;
use crate::probe::product::PRODUCTS;
use crate::probe::servers::metrics;
use crate::probe::servers::metrics::MetricSample;
use crate::probe::{Io, Memo, ProbeCx, ProbeError, blocking};

/// Limit of a response body, in bytes: the list of thousands of targets is long, and so are the metrics of a large Prometheus.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Timeout of one request. Prometheus scrapes with a timeout of 10 s by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Responses by server and path.
pub(super) type Responses = Memo<(String, String), Result<Result<Arc<HttpResponse>, SessionError>, ProbeError>>;

/// Command line of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(Vec<String>);

impl Flags {
    /// Command line of a process; empty if the process no longer exists.
    #[must_use]
    pub fn of(io: &Io, pid: i32) -> Self {
        Self::parse(&process::command_line(io, pid).unwrap_or_default())
    }

    /// Parses arguments separated by NUL.
    pub(super) fn parse(arguments: &str) -> Self {
        Self(arguments.split('\0').filter(|a| !a.is_empty()).map(str::to_owned).collect())
    }

    /// The value of `--flag=value`, `--flag value`, or the same with one dash.
    #[must_use]
    pub fn value(&self, flag: &str) -> Option<&str> {
        self.0.iter().enumerate().find_map(|(i, word)| {
            let rest = word.strip_prefix('-')?.trim_start_matches('-').strip_prefix(flag)?;
            rest.strip_prefix('=').or_else(|| if rest.is_empty() { self.0.get(i + 1).map(String::as_str) } else { None })
        })
    }

    /// Whether `--flag` is set.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|w| {
            w.strip_prefix('-').is_some_and(|w| {
                let w = w.trim_start_matches('-');
                w == flag || w.strip_prefix(flag) == Some("=true")
            })
        })
    }

    /// Whether a Prometheus runs in agent mode, without rules and without a queryable store.
    #[must_use]
    pub fn is_agent(&self) -> bool {
        self.has("agent") || self.value("enable-feature").is_some_and(|f| f.split(',').any(|f| f == "agent"))
    }

    /// Listening address, if set on the command line.
    pub(super) fn listens(&self, product: Product) -> Option<SocketAddr> {
        let listen_address = match product {
            Product::Prometheus | Product::Alertmanager | Product::Blackbox => self.value("web.listen-address"),
            Product::Alloy => self.value("server.http.listen-addr"),
            Product::Minio => self.value("address"),
            Product::Cadvisor => {
                let port = self.value("port")?.parse().ok()?;
                return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
            }
            Product::Loki | Product::Promtail | Product::Tempo | Product::Mimir => {
                let port = self.value("server.http-listen-port")?.parse().ok()?;
                return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
            }
            _ => None,
        };
        let (host, port) = split_port(listen_address?);
        let ip: IpAddr = host.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
        Some(SocketAddr::new(ip, port?))
    }

    /// Path prefix of the API: with a leading slash and without a trailing one, or empty.
    pub(super) fn prefix(&self) -> String {
        let external = self.value("web.external-url").map(Address::parse).filter(|url| url.scheme.is_some());
        let prefix = self.value("web.route-prefix").or(external.map(|url| url.path()));
        let prefix = prefix.unwrap_or_default().trim_matches('/');
        if prefix.is_empty() { String::new() } else { format!("/{prefix}") }
    }
}

/// Addresses of the API in the order in which they are tried, and the path prefix.
async fn endpoints(known: &ServerHandle) -> Result<(Vec<ConnectAddr>, String), SessionError> {
    let tcp =
        |all: Vec<ConnectAddr>| all.into_iter().filter(|a| matches!(a.socket, Socket::Tcp(_))).collect::<Vec<ConnectAddr>>();
    let Some(process) = known.server.process else {
        // path of a configured URL
        let path = known.login.as_ref().and_then(|l| l.database.clone()).unwrap_or_default();
        let path = path.trim_matches('/');
        return Ok((tcp(connect_addrs(known).await?), if path.is_empty() { String::new() } else { format!("/{path}") }));
    };
    // with invisible descriptors, the address of the command line or the default port is tried
    let product = known.server.product;
    let inspected = blocking::run("a process", &known.server.name, CONNECT_TIMEOUT, move |io| {
        let flags = Flags::of(io, process.pid);
        let port = configured_port(io, process.pid, product, &flags);
        (flags, port)
    });
    let (hidden, (flags, configured)) = (known.hidden, inspected.await.unwrap_or_default());
    let found = if hidden && known.sockets.is_empty() { Vec::new() } else { tcp(connect_addrs(known).await?) };
    let at = flags.listens(product);
    let port = at.map(|a| a.port()).or(configured).unwrap_or(default_port(product));
    let (mut endpoints, others): (Vec<ConnectAddr>, Vec<ConnectAddr>) = found.into_iter().partition(|a| is_port(a, port));
    if endpoints.is_empty() && hidden {
        let address = at.unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        endpoints.push(ConnectAddr { socket: Socket::Tcp(address), inside: Some(process.pid), user: None });
    } else if endpoints.is_empty() {
        endpoints = others;
    }
    if endpoints.is_empty() { Err(SessionError::NotListening) } else { Ok((endpoints, flags.prefix())) }
}

fn is_port(addr: &ConnectAddr, port: u16) -> bool {
    matches!(&addr.socket, Socket::Tcp(a) if a.port() == port)
}

/// The port is set in the configuration file of Loki, Promtail, Tempo and Mimir, and in the environment of Grafana and MinIO.
fn configured_port(io: &Io, pid: i32, product: Product, flags: &Flags) -> Option<u16> {
    match product {
        Product::Loki | Product::Promtail | Product::Tempo | Product::Mimir => {
            let text = file_of(io, pid, flags.value("config.file")?)?;
            text.lines().find_map(|l| l.trim().strip_prefix("http_listen_port:")?.trim().parse().ok())
        }
        Product::Grafana => {
            let environ = io.read_lossy(format!("/proc/{pid}/environ")).ok()?;
            environ.split('\0').find_map(|e| e.strip_prefix("GF_SERVER_HTTP_PORT=")?.parse().ok())
        }
        Product::Minio => {
            let environ = io.read_lossy(format!("/proc/{pid}/environ")).ok()?;
            environ.split('\0').find_map(|e| split_port(e.strip_prefix("MINIO_ADDRESS=")?).1)
        }
        _ => None,
    }
}

impl ProbeCx {
    /// Response to `GET path`, requested once per run. A path that requires a login opsctl does not have counts as no session.
    pub async fn response(&self, target: &Object, path: &str) -> Result<Result<Arc<HttpResponse>, SessionError>, ProbeError> {
        let known = self.servers().known(target)?;
        let read = || async { Ok(Box::pin(get(known, path)).await?.map(Arc::new)) };
        self.servers().responses.get((target.id.clone(), path.to_owned()), read).await
    }

    /// [`ProbeCx::response`] without the cache.
    pub async fn fresh_response(
        &self,
        target: &Object,
        path: &str,
    ) -> Result<Result<Arc<HttpResponse>, SessionError>, ProbeError> {
        Ok(Box::pin(get(self.servers().known(target)?, path)).await?.map(Arc::new))
    }

    /// JSON response to `GET path`. The cause of a server that does not respond at all is reported by its own check.
    pub async fn json(&self, target: &Object, path: &str) -> Result<serde_json::Value, ProbeError> {
        let answer = match self.response(target, path).await? {
            Ok(answer) => answer,
            Err(why) => return Err(Box::pin(self.unanswered(target, path, &why)).await),
        };
        let failed = |why: &str| ProbeError::failed("an answer", format!("{target} {}", bare(path)), why);
        match answer.status {
            503 => Err(ProbeError::Skip(format!("it is not ready: see monitoring.{}", target.kind))),
            200 if answer.broken_off => Err(failed("incomplete body")),
            200 if answer.truncated => Err(failed("the body is too large")),
            200 => serde_json::from_str(&answer.body).map_err(|_| failed("it is not JSON")),
            status => Err(failed(&format!("status {status}"))),
        }
    }

    /// Metrics of a server with one of these names.
    pub async fn metrics(&self, target: &Object, names: &[&str]) -> Result<Vec<MetricSample>, ProbeError> {
        match self.response(target, "/metrics").await? {
            Ok(answer) if answer.status == 200 && !answer.broken_off => Ok(metrics::parse(&answer.body, names)),
            Ok(answer) if answer.broken_off => {
                Err(ProbeError::failed("numbers", format!("{target} /metrics"), "incomplete body"))
            }
            Ok(answer) => Err(ProbeError::failed("numbers", format!("{target} /metrics"), &format!("status {}", answer.status))),
            Err(why) => Err(Box::pin(self.unanswered(target, "/metrics", &why)).await),
        }
    }

    /// Error of a request without a response. A server that responds to no request has its own check, which reports the cause;
    /// otherwise only this fact is unknown.
    async fn unanswered(&self, target: &Object, path: &str, why: &SessionError) -> ProbeError {
        match self.response(target, readiness_path(target.kind)).await {
            Ok(Ok(_)) => ProbeError::failed("an answer", format!("{target} {}", bare(path)), &why.words()),
            _ => why.skip(&format!("monitoring.{}", target.kind)),
        }
    }

    /// [`ProbeCx::metrics`] without the cache.
    pub async fn metrics_now(&self, target: &Object, names: &[&str]) -> Vec<MetricSample> {
        match self.fresh_response(target, "/metrics").await {
            Ok(Ok(answer)) => metrics::parse(&answer.body, names),
            _ => Vec::new(),
        }
    }

    /// Command line of a server of this host.
    pub async fn flags(&self, target: &Object) -> Flags {
        let Some(process) = self.servers().known(target).ok().and_then(|k| k.server.process) else { return Flags::default() };
        let read = blocking::run("arguments", &target.name, CONNECT_TIMEOUT, move |io| Flags::of(io, process.pid));
        read.await.unwrap_or_default()
    }
}

/// Path of the readiness endpoint.
fn readiness_path(kind: Kind) -> &'static str {
    PRODUCTS.iter().find(|row| row.product.kind() == kind).map_or("/-/ready", |row| row.ready)
}

/// Path without its query.
fn bare(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

async fn get(known: &ServerHandle, path: &str) -> Result<Result<HttpResponse, SessionError>, ProbeError> {
    let (endpoints, prefix) = match endpoints(known).await {
        Ok(endpoints) => endpoints,
        Err(why) => return Ok(Err(why)),
    };
    let denied = || ProbeError::Denied {
        subject: "a response".to_owned(),
        from: known.server.name.clone(),
        needs: crate::probe::needed_right().to_owned(),
    };
    // in an unknown namespace the response could be from another server, and an assumed port may be another server's
    let unknown = known.server.process.is_some() && known.is_local.is_none();
    if unknown && known.server.container.is_some() {
        return Err(denied());
    }
    let hidden = unknown || known.hidden;
    let trust = known.trust();
    let mut last = SessionError::NotListening;
    for addr in &endpoints {
        // a timeout on one address of a port applies to its other addresses
        if matches!(&last, SessionError::Hung { address, .. } if split_port(address).1 == split_port(&addr.address()).1) {
            continue;
        }
        match fetch(known, addr, &format!("{prefix}{path}"), trust).await? {
            // plain text of Go's servers
            Ok(answer) if answer.status == 400 && answer.body.contains("HTTP request to an HTTPS server") => {
                return fetch(known, addr, &format!("{prefix}{path}"), Some(&Trust::Encrypted)).await;
            }
            Ok(answer) => return Ok(Ok(answer)),
            Err(SessionError::Refused { .. }) if hidden => return Err(denied()),
            Err(why) => last = why.or(last),
        }
    }
    Ok(Err(last))
}

async fn fetch(
    known: &ServerHandle,
    addr: &ConnectAddr,
    path: &str,
    trust: Option<&Trust>,
) -> Result<Result<HttpResponse, SessionError>, ProbeError> {
    let address = addr.address();
    let login = known.login.as_ref();
    let PeerConnection { mut stream, doubt } = match reach(addr, known, trust).await? {
        Ok(reached) => reached,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(trust) = trust {
        stream = match tokio::time::timeout(CONNECT_TIMEOUT, over_tls(stream, known.host(), trust)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Ok(Err(SessionError::insecure(address, &e))),
            Err(_) => return Ok(Err(SessionError::Hung { address, after_ms: millis(CONNECT_TIMEOUT) })),
        };
    }
    let credentials = login.and_then(|l| Some((l.user.as_deref()?, l.password.as_ref()?)));
    // basic authentication sends the password in clear text
    if credentials.is_some()
        && !trust.is_some_and(Trust::proves)
        && let Some(doubt) = doubt
    {
        return Ok(Err(SessionError::Unproven { address, why: doubt }));
    }
    let response = match &credentials {
        Some((user, password)) => {
            http::get_as(stream, &address, path, (user, password.reveal()), MAX_BODY_BYTES, REQUEST_TIMEOUT).await
        }
        None => http::get(stream, &address, path, MAX_BODY_BYTES, REQUEST_TIMEOUT).await,
    };
    Ok(match response {
        // only metrics are readable line by line: any other truncated body would occupy memory until the end of the run
        Ok(answer) if answer.truncated && !path.ends_with("/metrics") => Ok(HttpResponse { body: String::new(), ..answer }),
        Ok(answer) if matches!(answer.status, 401 | 403) => Err(SessionError::Login {
            address,
            message: format!("status {}", answer.status),
            tried: credentials.and(login).map(|l| l.from.clone()),
        }),
        Ok(answer) => Ok(answer),
        Err(why) => Err(no_answer(address, why)),
    })
}

fn no_answer(address: String, why: http::HttpError) -> SessionError {
    match why {
        http::HttpError::Timeout => SessionError::Hung { address, after_ms: millis(REQUEST_TIMEOUT) },
        http::HttpError::Closed(why) => SessionError::Closed { address, why },
        http::HttpError::NotHttp(why) => SessionError::Garbage { address, why },
    }
}

/// Sends `POST path` to a discovered server at its listening address; for the guard. The error contains the response.
pub async fn post(product: Product, process: ServerProcess, path: &str) -> Result<(), String> {
    let pid = process.pid;
    let read = move |io: &Io| (Flags::of(io, pid), Namespaces::default().sockets_of(io, pid, product, "").listening);
    let read = blocking::run("arguments", &format!("process {pid}"), CONNECT_TIMEOUT, read).await;
    let (flags, sockets) = read.map_err(|e| e.to_string())?;
    let port = flags.listens(product).map_or(default_port(product), |a| a.port());
    let addr_of = |socket: Socket| ConnectAddr { socket, inside: Some(pid), user: None };
    let mut why = format!("it does not listen on port {port}");
    let mut reached = None;
    for addr in sockets.into_iter().map(addr_of).filter(|a| is_port(a, port)) {
        match reach_process(&addr, process, product).await.map_err(|e| e.to_string())? {
            Ok(stream) => {
                reached = Some((stream, addr.address()));
                break;
            }
            Err(no_session) => why = format!("{}: {}", addr.address(), no_session.words()),
        }
    }
    let Some((stream, address)) = reached else { return Err(why) };
    let path = format!("{}{path}", flags.prefix());
    let answer = http::post(stream, &address, &path, None, Duration::from_secs(20)).await;
    match answer {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => {
            let body: String = answer.body.trim().chars().take(300).collect();
            Err(format!("POST {path} at {address}: status {}: {body}", answer.status))
        }
        Err(_) => Err(format!("POST {path} at {address}: no answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_address_and_prefix_are_parsed_from_arguments() {
        let web = |a: &str| {
            let flags = Flags::parse(a);
            (flags.listens(Product::Prometheus).map(|a| a.to_string()).unwrap_or_default(), flags.prefix())
        };
        assert_eq!(web("prometheus\0--config.file=/x\0"), (String::new(), String::new()));
        assert_eq!(web("prometheus\0--web.listen-address=0.0.0.0:9999\0").0, "127.0.0.1:9999");
        assert_eq!(
            web("prometheus\0--web.listen-address\x0010.0.0.1:9091\0--web.external-url=https://a/prom/\0"),
            ("10.0.0.1:9091".to_owned(), "/prom".to_owned())
        );
        assert_eq!(web("prometheus\0--web.external-url=https://a/prom/\0--web.route-prefix=/\0").1, "");
        assert_eq!(web("prometheus\0--web.external-url=https://a/prom?x=/y\0").1, "/prom");
        for (address, listens) in
            [("[::1]:9092", "[::1]:9092"), ("[::]:9092", "127.0.0.1:9092"), (":9092", "127.0.0.1:9092"), ("[::1]", "")]
        {
            assert_eq!(web(&format!("prometheus\0--web.listen-address={address}\0")).0, listens, "{address}");
        }
        assert!(Flags::parse("prometheus\0--enable-feature=agent\0").is_agent());
        assert!(Flags::parse("prometheus\0--web.enable-lifecycle\0").has("web.enable-lifecycle"));
        assert!(!Flags::parse("prometheus\0--web.enable-lifecycle=false\0").has("web.enable-lifecycle"));
        assert_eq!(Flags::parse("loki\0-config.file=/etc/loki.yml\0").value("config.file"), Some("/etc/loki.yml"));
    }
}
