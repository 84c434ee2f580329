//! The nginx fix: a reload, offered only while `nginx -t` passes. A restart is never offered: a running master keeps serving with
//! a configuration that it would not start with.

use std::time::Duration;

use opsctl_core::model::{Action, CheckSpec, Finding, FixSpec, Object, Plan, Refusal, Risk};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::nginx::{ConfigTest, Nginx, test, test_command};
use serde::{Deserialize, Serialize};

use crate::shared::servers::Server;

pub(crate) const RELOAD: FixSpec =
    FixSpec { id: "nginx.reload", risk: Risk::R1, title: "reload the configuration and certificates of nginx" };

/// Data needed for a reload: the master process, and the result of `nginx -t`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reload {
    pid: i32,
    start_ticks: u64,
    container: Option<String>,
    test: Vec<String>,
    pub(crate) tested: ConfigTest,
}

impl Reload {
    /// Runs `nginx -t`.
    pub(crate) async fn of(cx: &ProbeCx, server: &Server, nginx: &Nginx) -> Self {
        let Some(server) = server.get() else { return Self::default() };
        let process = server.process;
        Self {
            pid: nginx.master,
            start_ticks: process.map_or(0, |p| p.start_ticks),
            container: server.container.clone(),
            test: test_command(nginx),
            tested: test(cx, server, nginx).await,
        }
    }

    /// The plan of a reload, or the reason for refusing it.
    pub(crate) fn plan(&self, check: &CheckSpec, finding: &Finding, target: &Object) -> Result<Plan, Refusal> {
        if let Some(why) = &self.tested.not_run {
            return Err(Refusal::Precondition(format!("`nginx -t` could not be run: {why}")));
        }
        if !self.tested.passes {
            return Err(Refusal::Precondition(format!(
                "`nginx -t` fails, so a reload would be rejected: {}",
                self.tested.complaint().unwrap_or("no output")
            )));
        }
        let action = Action::ReloadNginx {
            pid: self.pid,
            start_ticks: self.start_ticks,
            container: self.container.clone(),
            test: self.test.clone(),
        };
        Ok(Plan::new(&RELOAD, check, finding, target, vec![action])
            .affects(["open connections stay with the old workers".to_owned()])
            .verified(Duration::from_secs(20), Duration::ZERO))
    }
}
