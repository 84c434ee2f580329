//! `INFO`, as far as a check needs it.

use std::collections::BTreeMap;

use opsctl_core::model::Target;
use opsctl_core::probe::servers::redis::{NoAnswer, Session};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Some lines of `INFO`, by their keys. A server that does not have one (Dragonfly, an old version) leaves it out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    /// The lines with these keys.
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

    /// A whole number; none when it is not there or not one (`rdb_last_bgsave_time_sec:-1` is none yet).
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    pub(super) fn decimal(&self, key: &str) -> Option<f64> {
        self.text(key)?.parse().ok()
    }
}

/// The session, for checks that have nothing to say without one.
pub(super) async fn session(cx: &ProbeCx, target: &Target) -> Result<Arc<Session>, ProbeError> {
    cx.redis(target).await?.map_err(|why| why.skip("redis.up"))
}

fn no_info(why: NoAnswer) -> ProbeError {
    match why {
        // a script blocks it, or this user may not ask
        NoAnswer::Said(said) if said.code == "BUSY" => {
            ProbeError::Skip("it answers nothing else while a script runs: see redis.up".to_owned())
        }
        NoAnswer::Said(said) => ProbeError::failed("INFO", "the server", &format!("{} {}", said.code, said.message)),
        // it has answered a moment ago: this is not its silence, it is what we do not know
        NoAnswer::Lost(why) => ProbeError::failed("INFO", "the server", &why.words()),
    }
}
