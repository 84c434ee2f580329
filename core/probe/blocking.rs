//! Calls that may hang in the kernel run on a thread that can be abandoned.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::ProbeError;

/// Threads that read at the same time. A host with hundreds of containers has thousands of reads, and what each thread's allocations
/// leave behind is most of what a run would take.
static AT_ONCE: Semaphore = Semaphore::const_new(8);

/// How long a read counts as one of them. What takes longer waits for something, or hangs, and must not hold up who does not.
const TURN: Duration = Duration::from_millis(5);

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
    // never closed, so acquiring cannot fail
    let permit = AT_ONCE.acquire().await;
    let (send, mut receive) = oneshot::channel();
    std::thread::Builder::new()
        .name("probe".to_owned())
        // only what is touched costs memory; reading certificates and nested configurations goes deep
        .stack_size(2 << 20)
        .spawn(move || {
            // the receiver is gone when the wait was given up
            let _ = send.send(read());
        })
        .map_err(|e| ProbeError::io(what, from, &e))?;
    let started = Instant::now();
    let mut received = tokio::time::timeout(TURN.min(timeout), &mut receive).await;
    drop(permit);
    if received.is_err() {
        received = tokio::time::timeout(timeout.saturating_sub(started.elapsed()), receive).await;
    }
    match received {
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

    #[tokio::test(flavor = "current_thread")]
    async fn who_hangs_does_not_hold_up_who_does_not() {
        let (keep, never) = std::sync::mpsc::channel::<()>();
        let never = std::sync::Arc::new(std::sync::Mutex::new(never));
        let hung = (0..100).map(|_| {
            let never = never.clone();
            run("the filesystem", "/dead", Duration::from_secs(60), move || drop(never.lock().map(|n| n.recv())))
        });
        let quick = async {
            let got = run("the filesystem", "/", Duration::from_secs(60), || 7).await;
            drop(keep);
            got
        };
        // the hung ones end only when the quick one has ended
        let (_, got) = tokio::join!(futures_util::future::join_all(hung), quick);
        assert_eq!(got.ok(), Some(7));
    }
}
