//! The right to act.

use std::path::Path;

use opsctl_core::model::Action;
use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::servers::{postgres, redis};
use opsctl_core::probe::systemd::Systemd;

use crate::audit::Receipt;
use crate::engine::Managers;

/// The right to perform these actions and no others. Only this module's parent can make one, and only from the receipt of an intent that is on disk.
#[derive(Debug)]
pub struct Permit<'a> {
    seq: u64,
    actions: &'a [Action],
    managers: &'a Managers,
    state_dir: &'a Path,
}

impl<'a> Permit<'a> {
    pub(super) fn grant(intent: &Receipt, actions: &'a [Action], managers: &'a Managers, state_dir: &'a Path) -> Self {
        Self { seq: intent.seq(), actions, managers, state_dir }
    }

    /// Number of the journalled intent.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What may be done, in order.
    #[must_use]
    pub fn actions(&self) -> &'a [Action] {
        self.actions
    }

    /// The engine it is done with.
    #[must_use]
    pub fn docker(&self) -> Option<&'a Docker> {
        self.managers.docker.as_deref()
    }

    /// The service manager it is done with.
    #[must_use]
    pub fn systemd(&self) -> Option<&'a Systemd> {
        self.managers.systemd.as_deref()
    }

    /// The Redis session it is done with.
    #[must_use]
    pub fn redis(&self) -> Option<&'a redis::Session> {
        self.managers.redis.as_deref()
    }

    /// The PostgreSQL session it is done with.
    #[must_use]
    pub fn postgres(&self) -> Option<&'a postgres::Session> {
        self.managers.postgres.as_deref()
    }

    /// Where files are saved before they are cut.
    #[must_use]
    pub fn state_dir(&self) -> &'a Path {
        self.state_dir
    }
}
