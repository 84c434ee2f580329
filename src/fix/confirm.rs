//! Interactive confirmation.

use std::io::IsTerminal;

use opsctl_core::model::{Plan, Risk, printable};

use super::{Exit, FixOptions, Stop};
use crate::config::Policy;

/// A confirmation prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Yes or no; no is the default.
    YesNo(String),
    /// Confirmed by typing this name.
    TypeName {
        /// Text of the prompt.
        prompt: String,
        /// The text to type.
        name: String,
    },
}

/// The reply of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Apply the fix.
    Yes,
    /// Do not apply it.
    No,
    /// There is no terminal.
    NoTerminal,
}

/// A source of confirmations.
pub trait Confirm {
    /// Prompts for a confirmation.
    fn prompt(&self, question: &Prompt) -> Confirmation;
}

/// The operator at the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal;

impl Confirm for Terminal {
    fn prompt(&self, question: &Prompt) -> Confirmation {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Confirmation::NoTerminal;
        }
        // a prompt that fails (end of input, terminal closed) is no consent
        let yes = match question {
            Prompt::YesNo(prompt) => {
                // with Enter, so that a key typed ahead does not confirm
                dialoguer::Confirm::new().with_prompt(prompt).default(false).wait_for_newline(true).interact().unwrap_or(false)
            }
            Prompt::TypeName { prompt, name } => dialoguer::Input::<String>::new()
                .with_prompt(prompt)
                .allow_empty(true)
                .interact_text()
                .is_ok_and(|typed| typed.trim() == name),
        };
        if yes { Confirmation::Yes } else { Confirmation::No }
    }
}

/// The prompt for the risk class.
fn question(plan: &Plan, verb: &str) -> Prompt {
    let fix = &plan.fix;
    match plan.risk {
        Risk::R0 | Risk::R1 => Prompt::YesNo(format!("{verb} {fix}?")),
        Risk::R2 => Prompt::YesNo(printable(&format!("{verb} {fix} and interrupt {}?", plan.object()))),
        Risk::R3 | Risk::R4 => {
            let name = printable(&plan.subject.name);
            Prompt::TypeName { prompt: format!("{verb} {fix}: {}. Type {name} to go on", plan.risk.meaning()), name }
        }
    }
}

/// Obtains consent unless the command line gives it. `true` if a prompt was shown, so that time has passed.
pub(super) fn consent(plan: &Plan, verb: &str, options: FixOptions, policy: &Policy, person: &dyn Confirm) -> Result<bool, Stop> {
    if plan.risk == Risk::R4 {
        return Err(Stop::new(Exit::Declined, "opsctl never runs this fix; run the commands above by hand"));
    }
    // --yes alone covers fixes that interrupt at most one object
    let covered = options.yes && plan.risk <= options.risk.unwrap_or(Risk::R2);
    if covered {
        if plan.risk == Risk::R3 && !policy.allow.contains(&plan.fix) {
            let fix = &plan.fix;
            let why = format!("{fix} is R3 ({}) and not in `allow` of [policy]", plan.risk.meaning());
            return Err(Stop::new(Exit::Refused, why));
        }
        return Ok(false);
    }
    match person.prompt(&question(plan, verb)) {
        Confirmation::Yes => Ok(true),
        Confirmation::No => Err(Stop::new(Exit::Declined, "declined; nothing was changed")),
        Confirmation::NoTerminal => {
            let needed = match plan.risk {
                Risk::R3 => "--yes --risk R3, and the fix in `allow` of [policy]".to_owned(),
                risk if options.yes => format!("--risk {risk}"),
                _ => "--yes".to_owned(),
            };
            Err(Stop::new(Exit::Declined, format!("no terminal for the confirmation prompt; without one, {needed} is required")))
        }
    }
}
