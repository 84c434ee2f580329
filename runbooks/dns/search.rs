//! Search domains of this host with an address for every name.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Finding, Judged, Judgement, Object, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::leak::{self, LEAK, Wildcard};
use super::status::{ServerStatus, status_of};
use crate::shared::processes::of_host;

static SPEC: CheckSpec = CheckSpec {
    id: "dns.search",
    title: "search domains have no address for nonexistent names",
    codes: &[LEAK],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Search {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// The search list.
    search: Vec<String>,
    /// No server responds.
    nobody: bool,
    wildcards: Vec<Wildcard>,
}

impl Check for Search {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let limits = self.settings.query_limits();
        let host = cx.resolvers().host(&self.settings.names, limits).await?;
        let mut e = Evidence { search: host.file.conf.search.clone(), ..Evidence::default() };
        if !e.search.is_empty() {
            match host.servers.iter().find(|s| status_of(s) == ServerStatus::Good) {
                Some(good) => e.wildcards = leak::wildcards(None, &good.server, &e.search, limits).await?,
                None => e.nobody = true,
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.search.is_empty() {
            return Judgement::skip("resolv.conf has no search domain");
        }
        if e.nobody {
            return Judgement::skip("no name server responds: see dns.resolvers");
        }
        let one = |w: &Wildcard| {
            let to = leak::list(&w.addresses);
            let message = format!(
                "every name has an address in the search domain {} ({to}): mistyped and nonexistent names resolve to it",
                w.domain
            );
            of_host(Finding::new(&LEAK, Severity::Warn, Object::host(), message))
        };
        e.wildcards.iter().map(one).collect::<Vec<_>>().into()
    }
}
