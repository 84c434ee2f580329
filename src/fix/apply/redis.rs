//! What can be done to a Redis server.

use std::time::{Duration, Instant};

use opsctl_core::probe::servers::redis::{Any, NoAnswer, Session};

/// How long a snapshot may take; a larger one goes on, and its check tells.
const SNAPSHOT: Duration = Duration::from_secs(110);

/// How often is asked whether it has ended.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// `BGSAVE`, until it has ended.
pub(super) async fn save(session: &Session) -> Result<(), String> {
    session.ask::<Any>(&["BGSAVE"]).await.map_err(said)?;
    let started = Instant::now();
    while started.elapsed() < SNAPSHOT {
        let info = session.info_now().await.map_err(said)?;
        if info.get("rdb_bgsave_in_progress").is_none_or(|p| p == "0") {
            return match info.get("rdb_last_bgsave_status").map(String::as_str) {
                Some("err") => Err("the snapshot failed; its log says why".to_owned()),
                _ => Ok(()),
            };
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// `CONFIG SET`.
pub(super) async fn set(session: &Session, name: &str, value: &str) -> Result<(), String> {
    session.ask::<Any>(&["CONFIG", "SET", name, value]).await.map(|_| ()).map_err(said)
}

fn said(why: NoAnswer) -> String {
    match why {
        NoAnswer::Said(said) => format!("{} {}", said.code, said.message),
        NoAnswer::Lost(_) => "the server does not answer any more".to_owned(),
    }
}
