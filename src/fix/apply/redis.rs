//! Changes to a Redis server.

use std::time::{Duration, Instant};

use opsctl_core::probe::servers::redis::{Any, RedisCommandError, Session};

/// Time limit of a snapshot; a longer one continues in the background, and its check reports the result.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(110);

/// Interval of the status queries.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs `BGSAVE` and waits until it completes.
pub(super) async fn save(session: &Session) -> Result<(), String> {
    session.query::<Any>(&["BGSAVE"]).await.map_err(redis_error)?;
    let started = Instant::now();
    while started.elapsed() < SNAPSHOT_TIMEOUT {
        let info = session.info_now().await.map_err(redis_error)?;
        if info.get("rdb_bgsave_in_progress").is_none_or(|p| p == "0") {
            return match info.get("rdb_last_bgsave_status").map(String::as_str) {
                Some("err") => Err("the snapshot failed; the log of the server has the reason".to_owned()),
                _ => Ok(()),
            };
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// `CONFIG SET`.
pub(super) async fn set(session: &Session, name: &str, value: &str) -> Result<(), String> {
    session.query::<Any>(&["CONFIG", "SET", name, value]).await.map(|_| ()).map_err(redis_error)
}

fn redis_error(why: RedisCommandError) -> String {
    match why {
        RedisCommandError::Rejected(error) => format!("{} {}", error.code, error.message),
        RedisCommandError::Lost(_) => "the server no longer responds".to_owned(),
    }
}
