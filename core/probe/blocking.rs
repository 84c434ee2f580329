//! Calls that may hang in the kernel run on a thread that can be abandoned.

use std::time::Duration;

use tokio::sync::oneshot;

use super::ProbeError;

/// Runs `read` on a thread of its own and waits at most `timeout`.
///
/// A dead NFS server or a stopped FUSE daemon can hold `stat` for ever. Such waits end when the process is killed
/// (`wait_event_killable`), so an abandoned thread ends with opsctl and nothing is left behind; tokio's own blocking
/// pool would instead keep the process alive until the call returns.
pub async fn run<T: Send + 'static>(
    what: &str,
    from: &str,
    timeout: Duration,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ProbeError> {
    let (send, receive) = oneshot::channel();
    std::thread::Builder::new()
        .name("probe".to_owned())
        // only what is touched costs memory; reading certificates and nested configurations goes deep
        .stack_size(2 << 20)
        .spawn(move || {
            // the receiver is gone when the wait was given up
            let _ = send.send(read());
        })
        .map_err(|e| ProbeError::io(what, from, &e))?;
    match tokio::time::timeout(timeout, receive).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(ProbeError::failed(what, from, "the reading thread died")),
        Err(_) => Err(ProbeError::Timeout { what: what.to_owned(), from: from.to_owned(), after: timeout }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn gives_up_on_a_call_that_never_returns() {
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let got = run("the filesystem", "/dead", Duration::from_millis(20), move || never.recv()).await;
        assert!(matches!(got, Err(ProbeError::Timeout { .. })), "{got:?}");
    }
}
