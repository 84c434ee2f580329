//! Plan of a site fix in argv form.

use std::time::Duration;

use opsctl_core::model::{Action, Finding, Judged, Plan, Refusal};
use opsctl_core::probe::io::command::Program;

use super::probe::Evidence;
use crate::config::site::{SiteCheck, SiteFix};

/// Plans the fix with the program found now, in its directory.
pub(super) fn plan(check: &SiteCheck, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
    let precondition = |why: String| Refusal::Precondition(why);
    let (Some(spec), Some(own), Some(found)) = (check.spec.fixes.iter().find(|f| f.id == fix), &check.fix, &e.fix) else {
        return Err(precondition(format!("{} has no fix {fix}", check.spec.id)));
    };
    let program = found.program.clone().map_err(precondition)?;
    if let Some(why) = &found.directory {
        return Err(precondition(why.clone()));
    }
    let undo = match &found.undo {
        None => Vec::new(),
        Some(Ok(program)) => vec![action(own, program, &own.undo)],
        Some(Err(why)) => return Err(precondition(format!("the undo program is missing: {why}"))),
    };
    let open = found.open.as_ref().map(|user| format!("{user}, and therefore controls the program"));
    Ok(Plan::new(spec, check.spec, finding, judged.target, vec![action(own, &program, &own.argv)])
        .undo(undo)
        .affects(own.affects.iter().cloned().chain(open))
        .downtime(&own.downtime)
        .verified(own.verify_within, Duration::ZERO))
}

fn action(own: &SiteFix, program: &Program, argv: &[String]) -> Action {
    Action::RunOwn {
        program: program.path.clone(),
        identity: program.identity,
        argv: argv.to_vec(),
        cwd: own.cwd.clone(),
        timeout_s: own.timeout.as_secs().max(1),
    }
}
