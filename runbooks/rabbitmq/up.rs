//! Availability: the AMQP handshake.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::servers::{Server, Silence};

const UP: Code = Code {
    id: "rabbitmq.up",
    severities: &[Severity::Crit],
    when: "the broker is not running, refuses connections, does not complete the AMQP handshake in time, or speaks another protocol",
    hint: "check its log; a node that was not stopped cleanly may wait for the other nodes of its cluster",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Server, "broker is down"),
        Impact::confirmed(Role::Unresponsive, KeyKind::Container, "server does not respond"),
    ],
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

static SPEC: CheckSpec = CheckSpec {
    id: "rabbitmq.up",
    title: "RabbitMQ accepts AMQP connections",
    codes: &[UP],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Up;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    version: String,
}

impl Check for Up {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Rabbitmq)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        match cx.rabbitmq(target).await? {
            Ok(session) => Ok(Evidence { server, version: session.version.clone(), ..Evidence::default() }),
            Err(why) => Ok(Evidence { silence: Silence::about(cx, &server, why).await, server, ..Evidence::default() }),
        }
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        e.silence.judge(&UP, &e.server, judged.target, judged.taken_at, "AMQP 0-9-1", "RABBITMQ_PASSWORD")
    }
}
