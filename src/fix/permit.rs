//! Permission to act.

use std::path::Path;

use opsctl_core::model::Action;
use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::servers::{postgres, redis};
use opsctl_core::probe::systemd::Systemd;

use crate::audit::Receipt;
use crate::engine::Managers;

/// Permission to perform exactly these actions. Only the parent module can create one, and only from the receipt of an intent
/// that is on disk.
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

    /// The permitted actions, in order.
    #[must_use]
    pub fn actions(&self) -> &'a [Action] {
        self.actions
    }

    /// Container engine for the actions.
    #[must_use]
    pub fn docker(&self) -> Option<&'a Docker> {
        self.managers.docker.as_deref()
    }

    /// Service manager for the actions.
    #[must_use]
    pub fn systemd(&self) -> Option<&'a Systemd> {
        self.managers.systemd.as_deref()
    }

    /// Redis session for the actions.
    #[must_use]
    pub fn redis(&self) -> Option<&'a redis::Session> {
        self.managers.redis.as_deref()
    }

    /// PostgreSQL session for the actions.
    #[must_use]
    pub fn postgres(&self) -> Option<&'a postgres::Session> {
        self.managers.postgres.as_deref()
    }

    /// Directory in which files are saved before they are truncated.
    #[must_use]
    pub fn state_dir(&self) -> &'a Path {
        self.state_dir
    }
}
