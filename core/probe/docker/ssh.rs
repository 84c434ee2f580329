//! Engines behind `ssh://`: a connection is the input and output of `docker system dial-stdio` on the other machine, as in the Docker
//! CLI ("Use SSH to protect the Docker daemon socket").

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::connect::Stream;
use crate::model::address::{join, split_port};
use crate::model::printable;
use crate::probe::io::command::{Argv, Conversation, converse};
use crate::probe::io::http::HttpError;
use crate::probe::{Io, blocking, environment, lag};

/// Concurrent logins: sshd rejects new ones at random beyond 10 that have not logged in (`MaxStartups`, `sshd_config(5)`).
const MAX_LOGINS: usize = 4;

/// Size limit of the messages of ssh, in bytes.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// Time to wait for the messages of ssh after its connection was closed.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(300);

/// Time limit of reading the owner of the agent's socket.
const AGENT_TIMEOUT: Duration = Duration::from_secs(1);

/// An engine on another machine, reached with ssh.
#[derive(Debug)]
pub struct SshHost {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Socket of the engine there; the default of its docker program if `None`.
    socket: Option<String>,
    permits: Arc<Semaphore>,
    /// Last message of ssh, for errors.
    message: Arc<watch::Sender<String>>,
}

impl PartialEq for SshHost {
    fn eq(&self, other: &Self) -> bool {
        (&self.user, &self.host, self.port, &self.socket) == (&other.user, &other.host, other.port, &other.socket)
    }
}

impl Eq for SshHost {}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = self.port.map_or_else(|| self.host.clone(), |port| join(&self.host, port));
        write!(f, "ssh://{at}{host}{}", self.socket.as_deref().unwrap_or_default())
    }
}

impl SshHost {
    /// Parses `[user@]host[:port][/socket]`, the part after `ssh://`.
    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let (host, port) = split_port(host);
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password in an ssh:// address is not supported; use a key".to_owned());
        }
        // a leading dash would be an option of ssh
        let is_name = |text: &str| {
            let mut letters = text.chars();
            letters.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
                && letters.all(|c| c.is_ascii_alphanumeric() || "._-:%".contains(c))
        };
        if !is_name(host) || user.is_some_and(|user| !is_name(user)) {
            return Err("expected ssh://[user@]host[:port][/path/of/socket]".to_owned());
        }
        let socket = Some(path.trim_end_matches('/')).filter(|path| !path.is_empty());
        // the path is a word of the remote shell
        if socket.is_some_and(|path| !path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))) {
            return Err("the path of the socket has characters that a shell would interpret".to_owned());
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            socket: socket.map(str::to_owned),
            permits: Arc::new(Semaphore::new(MAX_LOGINS)),
            message: Arc::new(watch::Sender::new(String::new())),
        })
    }

    fn argv(&self) -> Result<Argv, String> {
        // BatchMode: neither passwords nor unknown host keys are prompted for
        let options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ClearAllForwardings=yes", "-x", "-a", "-T"];
        let mut argv = Argv::new("ssh", &options);
        if let Some(user) = &self.user {
            argv = argv.option("-l").operand(user)?;
        }
        if let Some(port) = self.port {
            argv = argv.option("-p").number(port);
        }
        argv = argv.option("--").operand(&self.host)?.option("docker");
        if let Some(socket) = &self.socket {
            argv = argv.option("--host").operand(&format!("unix://{socket}"))?;
        }
        Ok(argv.option("system").option("dial-stdio"))
    }

    /// A new connection. The process of ssh ends with it.
    pub(super) async fn open(&self, timeout: Duration) -> Result<Stream, HttpError> {
        let Ok(Ok(permit)) = lag::timeout(timeout, self.permits.clone().acquire_owned()).await else {
            return Err(HttpError::Timeout);
        };
        let variables = agent().await.into_iter().map(|path| ("SSH_AUTH_SOCK", path)).collect();
        let argv = self.argv().map_err(HttpError::Closed)?;
        let mut conversation = converse(&argv, variables, timeout).await.map_err(HttpError::Closed)?;
        self.keep_messages(&mut conversation);
        Ok(Box::new(SshStream { conversation, permit: Some(permit) }))
    }

    fn keep_messages(&self, conversation: &mut Conversation) {
        let Some(stderr) = conversation.stderr.take() else { return };
        let kept = self.message.clone();
        tokio::spawn(async move {
            let mut text = Vec::new();
            let mut stderr = stderr.take(MAX_MESSAGE_BYTES);
            let _ = stderr.read_to_end(&mut text).await;
            let text = String::from_utf8_lossy(&text);
            if let Some(last) = text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
                kept.send_replace(printable(last));
            }
            // further messages must not block ssh
            let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
        });
    }

    /// `error` with the message of ssh, which is the reason for a closed connection.
    pub(super) async fn explained(&self, error: HttpError) -> HttpError {
        if !matches!(error, HttpError::Closed(_)) {
            return error;
        }
        let mut message = self.message.subscribe();
        let said = tokio::time::timeout(MESSAGE_TIMEOUT, message.wait_for(|text| !text.is_empty())).await;
        match said {
            Ok(Ok(text)) => HttpError::Closed(text.clone()),
            _ => error,
        }
    }
}

/// The socket of the user's ssh agent. One of another user is not used: root may have inherited the variable.
async fn agent() -> Option<String> {
    let path = environment("SSH_AUTH_SOCK").filter(|path| path.starts_with('/'))?;
    let (socket, from) = (path.clone(), path.clone());
    let own = blocking::run("the ssh agent", &from, AGENT_TIMEOUT, move |io: &Io| {
        io.metadata(&socket).is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw())
    });
    own.await.is_ok_and(|own| own).then_some(path)
}

/// The pipes of ssh and its process. The permit is held until the login has succeeded: the first byte comes from the engine.
struct SshStream {
    conversation: Conversation,
    permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for SshStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let (stream, before) = (self.get_mut(), buffer.filled().len());
        let read = Pin::new(&mut stream.conversation.pipes).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            stream.permit = None;
        }
        read
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().conversation.pipes).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().conversation.pipes).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().conversation.pipes).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ssh_command_line_is_that_of_the_docker_cli() {
        let host = SshHost::parse("deploy@db-1.example:2222/run/podman/podman.sock").unwrap();
        let words = host.argv().unwrap().to_string();
        assert!(
            words.ends_with("-l deploy -p 2222 -- db-1.example docker --host unix:///run/podman/podman.sock system dial-stdio")
        );
        assert_eq!(host.to_string(), "ssh://deploy@db-1.example:2222/run/podman/podman.sock");
        let plain = SshHost::parse("db").unwrap().argv().unwrap().to_string();
        assert!(plain.starts_with("ssh -o BatchMode=yes") && plain.ends_with("-- db docker system dial-stdio"), "{plain}");
    }

    #[test]
    fn ssh_address_cannot_become_an_option_or_a_command() {
        for bad in ["", "-oProxyCommand=id", "-l@db", "a@-x", "a:secret@db", "db/run/$(id).sock", "db/a b", "a b@db", "db;id"] {
            assert!(SshHost::parse(bad).is_err(), "{bad}");
        }
    }
}
