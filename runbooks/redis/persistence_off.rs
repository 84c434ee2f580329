//! Servers with data that no file keeps.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity, quantity::count_of};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::info::{keys_of, session};
use crate::shared::broker_keys::{self, BrokerKeys};
use crate::shared::servers::Server;

const OFF: Code = Code {
    id: "redis.persistence-off",
    severities: &[Severity::Info],
    when: "the server holds keys, and neither snapshots nor the append-only file are enabled: a restart loses them",
    hint: "no action needed for a cache; otherwise `CONFIG SET appendonly yes`, and the same in its configuration file",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.persistence-off",
    title: "Redis servers with data have persistence enabled",
    codes: &[OFF],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct PersistenceOff;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Keys in all databases.
    keys: u64,
    /// Snapshots and the append-only file are disabled; `None` if the server does not report them.
    disabled: Option<bool>,
    /// The application's broker keys.
    broker: Option<BrokerKeys>,
}

impl Check for PersistenceOff {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let (save, append) = tokio::join!(session.setting("save"), session.setting("appendonly"));
        let disabled = save.zip(append).map(|(save, append)| save.is_empty() && append == "no");
        let mut e = Evidence { server: Server::of(cx, target)?, keys: keys_of(&session).await?, disabled, broker: None };
        if disabled == Some(true) {
            e.broker = broker_keys::find(&session).await.ok().filter(|k| !k.is_empty());
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let lost = match &e.broker {
            _ if e.disabled.is_none() => {
                return Judgement::skip(
                    "`CONFIG GET save` and `CONFIG GET appendonly` are not permitted, or the server does not have them",
                );
            }
            _ if e.disabled == Some(false) => return Judgement::default(),
            Some(broker) => format!("is the broker of {broker}: a restart loses every waiting task"),
            None if e.keys > 0 => format!("holds {} keys: usable only as a cache", count_of(e.keys)),
            None => return Judgement::default(),
        };
        vec![e.server.finding(&OFF, Severity::Info, judged.target, format!("{name} has no persistence and {lost}"))].into()
    }
}
