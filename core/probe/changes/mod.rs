//! Changes to this host: one file per source, each limited in time and size. Sources report changes without judging them;
//! correlation with findings is done elsewhere.

mod boot;
mod certificates;
mod clock;
mod config;
mod containers;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod logs;
mod packages;
mod sudo;
mod units;

use std::time::Duration;

use jiff::Timestamp;

use super::{ProbeCx, ProbeError};
use crate::model::{Change, Changes};

/// Limit of reported changes; the newest are kept.
const MAX_CHANGES: usize = 2000;

/// Units of container engines: a change of one concerns every container.
const ENGINE_UNITS: &[&str] = &["unit:docker.service", "unit:containerd.service", "unit:podman.service"];

/// Scope of the query.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Start of the period.
    pub since: Timestamp,
    /// Timeout of each source.
    pub time_limit: Duration,
    /// Also report programs run with sudo. Their log lines name the program without its object, so they concern no finding.
    pub sudo: bool,
}

/// Reads all sources concurrently. Never fails: sources that could not be read are listed in `unknown`.
pub async fn read(cx: &ProbeCx, reach: Reach) -> Changes {
    let Reach { since, time_limit, sudo } = reach;
    let mut unread = Vec::new();
    let ran = async { if sudo { sudo::read(since, time_limit).await } else { Ok(Vec::new()) } };
    let (boot, clock, containers, units, packages, config, certificates, ran) = tokio::join!(
        within("boots", time_limit, boot::read(cx, since)),
        within("the clock", time_limit, clock::read(since)),
        within("containers", time_limit, containers::read(cx, since)),
        within("units", time_limit, units::read(cx, since)),
        within("packages", time_limit, packages::read(since, time_limit)),
        within("configuration files", time_limit, config::read(cx, since, time_limit, &mut unread)),
        within("certificates", time_limit, certificates::read(cx, since, time_limit)),
        within("sudo", time_limit, ran),
    );
    let mut found = Changes { since, unknown: unread, ..Changes::default() };
    for source in [boot, clock, containers, units, packages, config, certificates, ran] {
        match source {
            Ok(changes) => found.changes.extend(changes),
            Err(ProbeError::Skip(why)) => found.absent.push(why),
            Err(e) => found.unknown.push(e.to_string()),
        }
    }
    for change in &mut found.changes {
        if change.concerns.iter().any(|c| ENGINE_UNITS.contains(&c.as_str())) {
            change.concerns.push("engine".to_owned());
        }
    }
    found.changes.sort_by(|a, b| (a.at, a.kind, &a.subject).cmp(&(b.at, b.kind, &b.subject)));
    found.changes.drain(..found.changes.len().saturating_sub(MAX_CHANGES));
    found
}

async fn within(
    subject: &str,
    time_limit: Duration,
    read: impl Future<Output = Result<Vec<Change>, ProbeError>>,
) -> Result<Vec<Change>, ProbeError> {
    let late =
        |_| ProbeError::Timeout { subject: format!("changes of {subject}"), from: "this host".to_owned(), after: time_limit };
    tokio::time::timeout(time_limit, read).await.map_err(late)?
}
