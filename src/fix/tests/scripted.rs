//! A scripted engine, a scripted operator, and real files, locks and journals.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::{Action, Code, Finding, Kind, Object, Plan, Reported, Risk, Severity, Verdict};
use opsctl_core::probe::Redactor;

use crate::audit::{Body, Entry, Journal};
use crate::config::Policy;
use crate::engine::{Managers, Offer, Recheck};
use crate::fix::{Confirm, Confirmation, Engine, Exit, FixOptions, Guard, Prompt};

static BROKEN: Code =
    Code { id: "demo.broken", severities: &[Severity::Crit], when: "it is broken", hint: "repair it", ..Code::BASE };

/// The number of a recheck, and an action during it.
pub(super) type Incident = (usize, Box<dyn Fn()>);

/// Returns each recheck once, the last one repeatedly.
#[derive(Default)]
pub(super) struct Scripted {
    steps: RefCell<VecDeque<Recheck>>,
    rechecks: Cell<usize>,
    over: Cell<bool>,
    /// Runs during the recheck of this number.
    pub(super) during: RefCell<Option<Incident>>,
}

impl Scripted {
    pub(super) fn returns(&self, recheck: Recheck) -> &Self {
        // results left over from the last fix are dropped when the next one starts
        if self.over.replace(false) {
            self.steps.borrow_mut().clear();
        }
        self.steps.borrow_mut().push_back(recheck);
        self
    }
    pub(super) fn forget(&self, index: usize) {
        self.steps.borrow_mut().remove(index);
    }
    pub(super) fn rechecks(&self) -> usize {
        self.rechecks.get()
    }
}

impl Engine for Scripted {
    async fn recheck(&self, check: &str, _target: &Object) -> Recheck {
        assert_eq!(check, "demo.check");
        self.rechecks.set(self.rechecks.get() + 1);
        if let Some((_, happens)) = self.during.borrow().as_ref().filter(|(number, _)| *number == self.rechecks.get()) {
            happens();
        }
        let mut steps = self.steps.borrow_mut();
        let next = steps.front().cloned().unwrap_or_else(|| panic!("no scripted recheck left"));
        if steps.len() > 1 {
            steps.pop_front();
        }
        next
    }
}

pub(super) struct Person {
    pub(super) answer: Cell<Confirmation>,
    pub(super) prompts: RefCell<Vec<Prompt>>,
}

impl Confirm for Person {
    fn prompt(&self, question: &Prompt) -> Confirmation {
        self.prompts.borrow_mut().push(question.clone());
        self.answer.get()
    }
}

/// Standard output of a closed pipe.
struct Deaf;

impl Write for Deaf {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) state: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) kill_switch: PathBuf,
    /// Created by the fix, removed by its undo.
    pub(super) marker: PathBuf,
    pub(super) engine: Scripted,
    pub(super) person: Person,
    pub(super) policy: Policy,
    pub(super) options: FixOptions,
    pub(super) deaf: bool,
    output: Vec<u8>,
}

impl Fixture {
    /// `--yes`, and no terminal.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            state: dir.path().join("state"),
            lock: dir.path().join("lock"),
            kill_switch: dir.path().join("no-fixes"),
            marker: dir.path().join("marker"),
            dir,
            engine: Scripted::default(),
            person: Person { answer: Cell::new(Confirmation::NoTerminal), prompts: RefCell::default() },
            policy: Policy { allow: vec![], max_fixes_per_hour: 3, max_per_fix: 10, max_per_host: 20 },
            options: FixOptions { yes: true, ..FixOptions::default() },
            deaf: false,
            output: Vec::new(),
        }
    }

    pub(super) fn answer(&self, answer: Confirmation) {
        self.person.answer.set(answer);
    }

    pub(super) fn plan(&self) -> Plan {
        let run = |program: &str| own(program, &[&self.marker.display().to_string()]);
        Plan {
            fix: "demo.repair".into(),
            risk: Risk::R2,
            subject: Object::new(Kind::Container, "web", "id@then"),
            part: String::new(),
            check: "demo.check".into(),
            target: Object::named(Kind::Container, "web"),
            code: "demo.broken".into(),
            actions: vec![run("touch")],
            undo: vec![run("rm")],
            blast: vec!["proxy depends on web".into()],
            downtime: "about 2 s".into(),
            recurs: Some("after a recreate".into()),
            verify_within: Duration::ZERO,
            stable_for: Duration::ZERO,
        }
    }

    fn run(&mut self, act: impl AsyncFnOnce(&mut Guard<'_, Scripted>) -> Exit) -> Exit {
        self.engine.over.set(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let out: &mut dyn Write = if self.deaf { &mut Deaf } else { &mut self.output };
        let mut guard = Guard {
            engine: &self.engine,
            policy: &self.policy,
            state_dir: &self.state,
            lock_file: &self.lock,
            signing_key: None,
            kill_switch: &self.kill_switch,
            options: self.options,
            person: &self.person,
            out,
        };
        runtime.block_on(act(&mut guard))
    }

    pub(super) fn fix(&mut self, offer: &Offer) -> Exit {
        self.run(async |guard| guard.fix(offer).await)
    }

    pub(super) fn undo(&mut self, seq: u64) -> Exit {
        self.run(async |guard| guard.undo(seq).await)
    }

    pub(super) fn output(&self) -> String {
        String::from_utf8(self.output.clone()).unwrap()
    }

    pub(super) fn append(&self, body: Body) -> u64 {
        Journal::at(&self.state).append(body, &Redactor::default()).unwrap().seq()
    }

    pub(super) fn journal(&self) -> Vec<Entry> {
        Journal::at(&self.state).entries().unwrap()
    }

    pub(super) fn last(&self) -> Body {
        self.journal().last().unwrap().body.clone()
    }
}

/// An action that runs a program of this machine.
pub(super) fn own(name: &str, arguments: &[&str]) -> Action {
    let program = opsctl_core::probe::io::command::program(name).unwrap();
    Action::RunOwn {
        program: program.path,
        identity: program.identity,
        argv: std::iter::once(name).chain(arguments.iter().copied()).map(str::to_owned).collect(),
        cwd: None,
        timeout_s: 30,
    }
}

pub(super) fn healthy() -> Recheck {
    Recheck {
        verdict: Verdict::Ok,
        findings: vec![],
        offers: vec![],
        managers: Managers::default(),
        pending: vec![],
        gaps: vec![],
        facts: vec![],
        redactor: Arc::default(),
    }
}

pub(super) fn offer(plan: &Plan) -> Offer {
    let message = format!("{} is broken", plan.subject.name);
    let finding = Finding::new(&BROKEN, Severity::Crit, plan.subject.clone(), message).fix("demo.repair");
    Offer { fix: plan.fix.clone(), finding: Reported::new(finding), plan: Ok(plan.clone()), refused: None, risk: plan.risk }
}

pub(super) fn failing(plan: &Plan) -> Recheck {
    let offer = offer(plan);
    Recheck { verdict: Verdict::Crit, findings: vec![offer.finding.clone()], offers: vec![offer], ..healthy() }
}
