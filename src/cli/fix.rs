//! `opsctl fix`: lists the available fixes, or applies one.

use std::io::Write;

use opsctl_core::model::{Action, FixSpec, Object, Refusal, Risk, fix_command, printable, quantity::count, with_part};
use opsctl_core::probe::ProbeOptions;
use opsctl_core::probe::endpoint::Endpoint;
use opsctl_core::probe::lag;

use super::ending::DEFAULT_DEADLINE;
use super::exit::UsageError;
use super::progress::Progress;
use super::{Global, run};
use crate::config::{self, Config, did_you_mean};
use crate::diagnosis::RunResult;
use crate::engine::{Assessment, Offer, Run, Selection};
use crate::fix::{self, Engine, Exit, FixOptions, GuardContext, subject_of};
use crate::watchdog::{self, Ending};

/// List available fixes, or apply one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fix to apply, for example `container.start`. Without it: list the available fixes
    fix: Option<String>,
    /// Object to apply it to: a name, `kind:name`, or the beginning of a container id
    subject: Option<String>,
    /// Part of the object, as the list shows it: `pid 812`, `slot standby`
    part: Vec<String>,
    /// Also check this address in the diagnosis (a URL, or host:port for TLS); can be given several times
    #[arg(long, value_name = "URL", value_parser = config::endpoint)]
    endpoint: Vec<Endpoint>,
    #[command(flatten)]
    consent: Consent,
}

/// How consent is given; also for `opsctl undo`.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Consent {
    /// Show the plan and stop (exit code 10)
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Skip the confirmation. Covers fixes that interrupt at most one object (R1, R2)
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Highest risk that --yes covers. R3 must also be allowed by `[policy] allow` in the configuration
    #[arg(long, value_name = "CLASS", requires = "yes", ignore_case = true)]
    risk: Option<Class>,
}

/// The risk classes that `--risk` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Class {
    #[value(name = "R1")]
    R1,
    #[value(name = "R2")]
    R2,
    #[value(name = "R3")]
    R3,
}

impl From<Consent> for FixOptions {
    fn from(consent: Consent) -> Self {
        let risk = consent.risk.map(|class| match class {
            Class::R1 => Risk::R1,
            Class::R2 => Risk::R2,
            Class::R3 => Risk::R3,
        });
        Self { dry_run: consent.dry_run, yes: consent.yes, risk }
    }
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    watchdog::on_overdue(ending());
    let mut config = load(global)?;
    run::add_endpoints(&mut config, &args.endpoint);
    run::block_on(async {
        let mut result = diagnose(&config, global).await?;
        for _ in 1..ATTEMPTS {
            if !was_too_busy(args, &config, &result.assessment) {
                break;
            }
            result = diagnose(&config, global).await?;
        }
        apply_one(args, &config, &result.assessment, &result.session).await
    })?
}

/// Limit of diagnoses for one fix on a busy host.
const ATTEMPTS: usize = 3;

/// Whether it is unknown if the requested fix is needed, only because opsctl waited for a processor.
fn was_too_busy(args: &Args, config: &Config, assessment: &Assessment) -> bool {
    let runbooks = crate::site::runbooks(config);
    let (fix, subject) = (args.fix.as_deref(), args.subject.as_deref());
    let choice = choose(fix, subject, &args.part, &assessment.offers, &fix::registry(&runbooks));
    let report = &assessment.report;
    matches!(choice, Choice::Nothing(_))
        && fix::unseen(fix.unwrap_or_default(), subject, &runbooks, &report.checks, &report.findings)
            .iter()
            .any(|why| lag::is_too_busy(why))
}

/// `opsctl RUNBOOK [TARGET]… --fix`: applies the available fixes of this runbook.
pub fn exec_runbook(selection: &Selection, endpoints: &[Endpoint], consent: Consent, global: &Global) -> anyhow::Result<u8> {
    watchdog::on_overdue(ending());
    let mut config = load(global)?;
    run::add_endpoints(&mut config, endpoints);
    // a finding about an address has the name of another object
    let is_endpoint = |word: &String| endpoints.iter().any(|e| e.url == *word || e.authority() == *word);
    let words: Vec<&String> = selection.words.iter().filter(|w| !is_endpoint(w)).collect();
    run::block_on(async {
        let result = diagnose(&config, global).await?;
        let selected = |o: &&Offer| {
            let named = words.is_empty() || words.contains(&&o.finding.subject.name);
            selection.runbooks.contains(&o.finding.runbook) && named
        };
        let offers: Vec<Offer> = result.assessment.offers.iter().filter(selected).cloned().collect();
        Ok(apply_each(&offers, consent.into(), &config, &result.session).await)
    })?
}

/// The ending of a fix that the watchdog terminates. An action is never interrupted: it has its own limits.
pub(super) fn ending() -> Ending {
    Ending::line(|overdue| {
        let code = overdue.code.unwrap_or(Exit::Refused.code());
        let state = match code {
            c if c == Exit::Unverified.code() => "the change is not verified; the next run of `opsctl fix` checks again",
            _ => "nothing was changed",
        };
        (format!("{}; {state}", overdue.words()), code)
    })
}

pub(super) fn load(global: &Global) -> anyhow::Result<Config> {
    let began = watchdog::began();
    let _limit = watchdog::within("reading the configuration", began, DEFAULT_DEADLINE, Some(Exit::Refused.code()));
    Ok(run::load(global)?)
}

/// A complete diagnosis, also for a single fix: only it shows whether a cause is open elsewhere.
async fn diagnose(config: &Config, global: &Global) -> anyhow::Result<RunResult> {
    let progress = Progress::new(!global.quiet, global.color);
    let selection = Selection { skip: config.skip.clone(), ..Selection::default() };
    let made = Run::default();
    let _limit = watchdog::within("the diagnosis before the fix", made.began, config.deadline, Some(Exit::Refused.code()));
    run::diagnose(config, &selection, ProbeOptions::default(), None, &made, &progress).await
}

async fn apply_one(args: &Args, config: &Config, assessment: &Assessment, engine: &impl Engine) -> anyhow::Result<u8> {
    let offers = &assessment.offers;
    let runbooks = crate::site::runbooks(config);
    let known = fix::registry(&runbooks);
    let mut out = std::io::stdout();
    let context = GuardContext::of(config);
    let choice = choose(args.fix.as_deref(), args.subject.as_deref(), &args.part, offers, &known);
    if matches!(choice, Choice::List | Choice::Nothing(_)) {
        context.guard(engine, args.consent.into(), &mut out).recover().await;
    }
    match choice {
        Choice::List => {
            list(offers, &known, &mut out)?;
            if let Some(why) = fix::host_switched_off() {
                writeln!(out, "{why}")?;
            }
            let unknown = assessment.report.checks.iter().filter(|row| row.verdict == "unknown").count();
            if unknown > 0 {
                writeln!(out, "{} could not run: see `opsctl diagnose`", count(unknown, "check"))?;
            }
            Ok(0)
        }
        Choice::Nothing(why) => {
            let id = args.fix.as_deref().unwrap_or_default();
            let unseen =
                fix::unseen(id, args.subject.as_deref(), &runbooks, &assessment.report.checks, &assessment.report.findings);
            if unseen.is_empty() {
                writeln!(out, "{}", printable(&why))?;
                return Ok(0);
            }
            writeln!(out, "refused: whether a finding requires {} cannot be determined now", printable(id))?;
            for why in unseen {
                writeln!(out, "  {}", printable(&why))?;
            }
            Ok(Exit::Refused.code())
        }
        Choice::Usage(why) => Err(UsageError(why).into()),
        Choice::One(offer) => Ok(context.guard(engine, args.consent.into(), &mut out).fix(offer).await.code()),
    }
}

/// Applies all offers, each through the guard; the exit code is that of the first one that failed.
async fn apply_each(offers: &[Offer], options: FixOptions, config: &Config, engine: &impl Engine) -> u8 {
    let mut out = std::io::stdout();
    let context = GuardContext::of(config);
    let mut code = 0;
    for offer in without_duplicates(offers).into_iter().filter(|o| o.refused.is_none() && o.plan.is_ok()) {
        let exit = context.guard(engine, options, &mut out).fix(offer).await.code();
        code = if code == 0 { exit } else { code };
    }
    code
}

/// The offers without duplicates: two findings can require the same fix.
fn without_duplicates(offers: &[Offer]) -> Vec<&Offer> {
    let mut kept: Vec<&Offer> = Vec::new();
    for offer in offers {
        let alike = |k: &&Offer| k.fix == offer.fix && subject_of(k) == subject_of(offer) && k.finding.part == offer.finding.part;
        if !kept.iter().any(alike) {
            kept.push(offer);
        }
    }
    kept
}

/// The actions of an offer, or the reason for its refusal.
fn planned_actions(offer: &Offer) -> Result<&[Action], &Refusal> {
    offer.plan.as_ref().map(|p| p.actions.as_slice())
}

/// The result of matching the command line with the offers.
#[derive(Debug)]
enum Choice<'a> {
    List,
    Nothing(String),
    Usage(String),
    One(&'a Offer),
}

fn choose<'a>(fix: Option<&str>, subject: Option<&str>, part: &[String], offers: &'a [Offer], known: &[&FixSpec]) -> Choice<'a> {
    let Some(fix) = fix else { return Choice::List };
    let here: Vec<&Offer> = offers.iter().filter(|o| o.fix == fix).collect();
    if here.is_empty() {
        if known.iter().any(|f| f.id == fix) {
            return Choice::Nothing(format!("nothing to do: no finding requires {fix}"));
        }
        let hint = did_you_mean(fix, known.iter().map(|f| f.id));
        return Choice::Usage(printable(&format!("no fix is called `{fix}`{hint}")));
    }
    let matching: Vec<&Offer> = match subject {
        None => here.clone(),
        Some(word) => here.iter().copied().filter(|o| names(o, word)).collect(),
    };
    let part = part.join(" ");
    let named: Vec<&Offer> = matching.iter().copied().filter(|o| part.is_empty() || names_part(o, &part)).collect();
    match (named.as_slice(), subject) {
        ([], Some(word)) if !matching.is_empty() => {
            Choice::Nothing(format!("nothing to do: no finding about `{part}` of `{word}` requires {fix}"))
        }
        ([], Some(word)) => {
            let subjects: Vec<&str> = here.iter().map(|o| subject_of(o).name.as_str()).collect();
            let hint = did_you_mean(word, subjects.iter().copied());
            Choice::Nothing(format!("nothing to do: no finding about `{word}` requires {fix}{hint}"))
        }
        // two findings may require the same fix
        ([first, rest @ ..], _)
            if rest.iter().all(|o| subject_of(o) == subject_of(first) && planned_actions(o) == planned_actions(first)) =>
        {
            Choice::One(first)
        }
        (several, _) => {
            let mut lines = vec![format!("{fix} is available for several objects; name one:")];
            for line in several.iter().map(|o| printable(&command(o, several))) {
                // two findings about one object
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
            Choice::Usage(lines.join("\n  "))
        }
    }
}

/// Whether `word` is the subject of this offer: its name, `kind:name`, or at least 12 leading digits of its id.
fn names(offer: &Offer, word: &str) -> bool {
    let subject = subject_of(offer);
    subject.name == word || subject.to_string() == word || (word.len() >= 12 && subject.id.starts_with(word))
}

/// The command that selects this offer among all offers of its fix: by name, by kind and name, or by identity.
fn command(offer: &Offer, all: &[&Offer]) -> String {
    let (subject, part) = (subject_of(offer), &offer.finding.part);
    let named = || all.iter().map(|o| (subject_of(o), &o.finding.part)).filter(|(other, _)| other.name == subject.name);
    let is_twin =
        |(other, of): (&Object, &String)| other.kind == subject.kind && of == part && other.lasting_id() != subject.lasting_id();
    if named().any(is_twin) {
        return fix_command(&offer.fix, subject.lasting_id(), part);
    }
    fix::command(&offer.fix, subject, part, named().any(|(other, _)| other.kind != subject.kind))
}

/// Whether `words` name the part of the object of this offer: `pid 812`, or the name alone.
fn names_part(offer: &Offer, words: &str) -> bool {
    let part = offer.finding.part.as_str();
    !part.is_empty() && (part == words || part.split_once(' ').is_some_and(|(_, name)| name == words))
}

fn list(offers: &[Offer], known: &[&FixSpec], out: &mut dyn Write) -> std::io::Result<()> {
    if offers.is_empty() {
        return writeln!(out, "nothing to fix");
    }
    for offer in without_duplicates(offers) {
        let spec = known.iter().find(|f| f.id == offer.fix);
        let title = spec.map_or("", |s| s.title);
        let object = with_part(subject_of(offer), &offer.finding.part);
        writeln!(out, "{} {} {}: {title}", offer.fix, offer.risk, printable(&object))?;
        writeln!(out, "    because  {}: {}", offer.finding.code, printable(&offer.finding.message))?;
        match (&offer.refused, &offer.plan) {
            (Some(why), _) => writeln!(out, "    refused  {}", printable(why))?,
            (None, Err(Refusal::ByHand(instruction))) => writeln!(out, "    by hand  {}", printable(instruction))?,
            (None, Err(refusal)) => writeln!(out, "    refused  {}", printable(&refusal.to_string()))?,
            (None, Ok(plan)) => {
                let all: Vec<&Offer> = offers.iter().filter(|o| o.fix == plan.fix).collect();
                writeln!(out, "    {}", printable(&command(offer, &all)))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use opsctl_core::model::{Code, Finding, Kind, Plan, Reported, Severity};

    use super::*;

    static DOWN: Code = Code { id: "container.down", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
    static START: FixSpec = FixSpec { id: "container.start", risk: Risk::R2, title: "start it" };
    static STOP: FixSpec = FixSpec { id: "container.stop-loop", risk: Risk::R2, title: "stop the loop" };

    fn offer(fix: &str, kind: Kind, name: &str) -> Offer {
        let subject = Object { kind, name: name.into(), id: format!("{name:0>64}@then") };
        let plan = Plan {
            fix: fix.into(),
            risk: Risk::R2,
            subject: subject.clone(),
            part: String::new(),
            check: "container.state".into(),
            target: Object::named(kind, name),
            code: DOWN.id.into(),
            actions: vec![],
            undo: vec![],
            blast: vec![],
            downtime: String::new(),
            recurs: None,
            verify_within: std::time::Duration::ZERO,
            stable_for: std::time::Duration::ZERO,
        };
        let finding = Finding::new(&DOWN, Severity::Crit, subject, format!("{name} is down"));
        Offer { fix: fix.into(), finding: Reported::new(finding), plan: Ok(plan), refused: None, risk: Risk::R2 }
    }

    fn description(choice: &Choice<'_>) -> String {
        match choice {
            Choice::List => "list".into(),
            Choice::Nothing(why) | Choice::Usage(why) => why.clone(),
            Choice::One(offer) => format!("{} {}", offer.fix, subject_of(offer)),
        }
    }

    #[test]
    fn arguments_select_one_offer() {
        let offers = [
            offer("container.start", Kind::Container, "web"),
            offer("container.start", Kind::Container, "db"),
            offer("container.start", Kind::Mount, "db"),
            offer("container.stop-loop", Kind::Container, "web"),
            // two findings require the same plan
            offer("container.stop-loop", Kind::Container, "web"),
        ];
        let known = [&START, &STOP];
        let choose = |fix: Option<&str>, subject: Option<&str>| description(&choose(fix, subject, &[], &offers, &known));
        assert_eq!(choose(None, None), "list");
        assert_eq!(choose(Some("container.start"), Some("web")), "container.start container:web");
        assert_eq!(choose(Some("container.start"), Some("mount:db")), "container.start mount:db");
        assert_eq!(choose(Some("container.start"), Some(&format!("{:0>64}", "web"))), "container.start container:web");
        assert_eq!(choose(Some("container.stop-loop"), None), "container.stop-loop container:web");
        assert_eq!(
            choose(Some("container.start"), Some("db")),
            "container.start is available for several objects; name one:\n  opsctl fix container.start container:db\n  opsctl fix container.start mount:db"
        );
        assert!(choose(Some("container.start"), None).contains("\n  opsctl fix container.start web\n"));
        assert_eq!(choose(Some("container.strat"), None), "no fix is called `container.strat`; did you mean `container.start`?");
        assert_eq!(
            choose(Some("container.start"), Some("wbe")),
            "nothing to do: no finding about `wbe` requires container.start; did you mean `web`?"
        );
        assert_eq!(
            description(&super::choose(Some("container.start"), Some("web"), &[], &[], &known)),
            "nothing to do: no finding requires container.start"
        );
    }

    /// An offer about a backend of `db`.
    fn backend(pid: i32) -> Offer {
        let mut offer = offer("pg.cancel", Kind::Postgres, "db");
        offer.finding.finding.part = format!("pid {pid}");
        if let Ok(plan) = &mut offer.plan {
            plan.part = format!("pid {pid}");
            plan.actions = vec![Action::PgCancel { server: "db".into(), pid, started_us: 1 }];
        }
        offer
    }

    #[test]
    fn parts_of_one_object_are_selected_by_name() {
        let offers = [backend(812), backend(900), backend(900)];
        let words = |part: &[&str]| part.iter().map(|w| (*w).to_owned()).collect::<Vec<String>>();
        let select = |part: &[&str]| match choose(Some("pg.cancel"), Some("db"), &words(part), &offers, &[]) {
            Choice::One(offer) => offer.finding.part.clone(),
            other => description(&other),
        };
        assert_eq!(
            select(&[]),
            "pg.cancel is available for several objects; name one:\n  opsctl fix pg.cancel db pid 812\n  opsctl fix pg.cancel db pid 900"
        );
        assert_eq!(select(&["pid", "812"]), "pid 812");
        assert_eq!(select(&["900"]), "pid 900", "two findings about one backend");
        assert_eq!(select(&["pid", "1"]), "nothing to do: no finding about `pid 1` of `db` requires pg.cancel");
        let mut out = Vec::new();
        list(&offers, &[], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("opsctl fix pg.cancel db pid").count(), 2, "{text}");
    }

    #[test]
    fn objects_with_one_name_are_selected_by_identity() {
        let mut other = offer("container.start", Kind::Queue, "celery");
        let id = "redis:cache/1/celery";
        other.finding.finding.subject.id = format!("{id}@7:8");
        if let Ok(plan) = &mut other.plan {
            plan.subject.id = format!("{id}@7:8");
            plan.actions = vec![Action::PruneBuildCache];
        }
        let offers = [offer("container.start", Kind::Queue, "celery"), other];
        let choice = description(&choose(Some("container.start"), Some("celery"), &[], &offers, &[]));
        assert!(choice.contains(&format!("\n  opsctl fix container.start {id}")), "{choice}");
        let Choice::One(found) = choose(Some("container.start"), Some(id), &[], &offers, &[]) else { panic!("not selected") };
        assert!(subject_of(found).id.starts_with(id));
    }

    #[test]
    fn list_shows_fix_reason_and_command() {
        let mut refused = offer("container.start", Kind::Container, "db\x1b[2J");
        refused.refused = Some("its cause disk.space on mount:/ is open".into());
        let mut by_hand = offer("container.start", Kind::Container, "job");
        by_hand.plan = Err(Refusal::ByHand("docker compose up -d job".into()));
        let offers = [offer("container.start", Kind::Container, "my web"), refused, by_hand];
        let mut out = Vec::new();
        list(&offers, &[&START], &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        container.start R2 container:my web: start it
            because  container.down: my web is down
            opsctl fix container.start 'my web'
        container.start R2 container:db\u{1b}[2J: start it
            because  container.down: db\u{1b}[2J is down
            refused  its cause disk.space on mount:/ is open
        container.start R2 container:job: start it
            because  container.down: job is down
            by hand  docker compose up -d job
        ");
        let mut out = Vec::new();
        list(&[], &[], &mut out).unwrap();
        assert_eq!(out, b"nothing to fix\n");
    }

    #[test]
    fn risk_needs_yes() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let parse = |words: &[&str]| {
            <Cli as clap::Parser>::try_parse_from([&["fix"], words].concat()).map(|c| FixOptions::from(c.args.consent))
        };
        assert!(parse(&["a.b", "--risk", "R3"]).is_err());
        assert!(parse(&["a.b", "--yes", "--risk", "R4"]).is_err());
        let options = parse(&["a.b", "web", "--yes", "--risk", "r3"]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((options.yes, options.risk, options.dry_run), (true, Some(Risk::R3), false));
    }
}
