//! Fields of `INFO`.

use std::collections::BTreeMap;

use opsctl_core::model::Object;
use opsctl_core::probe::servers::redis::{RedisCommandError, Session, keys};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Selected fields of `INFO`. A field that the server does not have (Dragonfly, an old version) is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    /// Reads the fields with these keys.
    pub(super) async fn of(session: &Session, keys: &[&str]) -> Result<Self, ProbeError> {
        let all = session.info().await.map_err(no_info)?;
        Ok(Self(keys.iter().filter_map(|k| Some(((*k).to_owned(), all.get(*k)?.clone()))).collect()))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn is(&self, key: &str, value: &str) -> bool {
        self.text(key) == Some(value)
    }

    /// A non-negative integer; `None` if the field is absent or has another value
    /// (`rdb_last_bgsave_time_sec:-1` before the first save).
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    pub(super) fn decimal(&self, key: &str) -> Option<f64> {
        self.text(key)?.parse().ok()
    }
}

/// Number of keys in all databases.
pub(super) async fn keys_of(session: &Session) -> Result<u64, ProbeError> {
    let all = session.info().await.map_err(no_info)?;
    Ok(keys(&all))
}

/// The session; without one the check is skipped.
pub(super) async fn session(cx: &ProbeCx, target: &Object) -> Result<Arc<Session>, ProbeError> {
    cx.redis(target).await?.map_err(|why| why.skip("redis.up"))
}

fn no_info(why: RedisCommandError) -> ProbeError {
    match why {
        // a script blocks the server, or this user lacks the permission
        RedisCommandError::Rejected(error) if error.code == "BUSY" => {
            ProbeError::Skip("it accepts no other command while a script runs: see redis.up".to_owned())
        }
        RedisCommandError::Rejected(error) => {
            ProbeError::failed("INFO", "the server", &format!("{} {}", error.code, error.message))
        }
        // the server answered a moment ago: this is a gap, not an outage
        RedisCommandError::Lost(why) => ProbeError::failed("INFO", "the server", &why.words()),
    }
}
