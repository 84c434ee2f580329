//! Evaluation of chains.
//!
//! A condition that is not evaluated splits the course of a packet in two: with the rule, and without it. Courses that lead to the
//! same packet at the same rule are merged again, so that a rule that only logs changes nothing. The verdict is unknown if courses
//! end differently.

use super::condition::{Answer, Key, Scene, Value, fit, has_entry};
use super::host::HostView;
use super::packet::{Hook, Packet, State};
use super::rule::{Action, Builder, FilterRule, MarkChange, Step};
use super::traversal::translated;
use crate::probe::network::firewall::Backend;

/// Limit of evaluated rules per hook; chains that call each other can be evaluated exponentially often.
const MAX_EVALUATIONS: usize = 2_000_000;

/// Limit of courses at one rule.
const MAX_COURSES: usize = 24;

/// Limit of nested chains: 16 in nftables (`NFT_JUMP_STACK_SIZE`), not limited in iptables.
const MAX_DEPTH: usize = 48;

/// A rule, by the indices of its chain and of itself.
pub(super) type RuleId = (usize, usize);

/// The end of a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum By {
    Rule(RuleId),
    /// The policy of the base chain with this index.
    Policy(usize),
}

/// A possible course of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) packet: Packet,
    /// Connection tracking has seen it.
    pub(super) tracked: bool,
    /// Its destination was translated, or no rule did.
    pub(super) destination_done: bool,
    /// As `destination_done`, for its source.
    pub(super) source_done: bool,
    /// Rules with conditions that are not evaluated, each with whether it is assumed to match.
    pub(super) trail: Vec<(RuleId, bool)>,
}

impl Course {
    pub(super) fn new(packet: Packet) -> Self {
        Self { packet, tracked: false, destination_done: false, source_done: false, trail: Vec::new() }
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.packet == other.packet
            && self.tracked == other.tracked
            && (self.destination_done, self.source_done) == (other.destination_done, other.source_done)
    }

    fn assume(&mut self, rule: RuleId, matches: bool) {
        self.trail.push((rule, matches));
    }
}

/// The end of a course in a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Accept,
    Drop(By),
    Reject(By),
    /// Decided outside of the rules, or too complex.
    Open(Option<RuleId>),
}

/// The evaluation of one base chain.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a Builder,
    pub(super) host: &'a HostView,
    pub(super) hook: Hook,
    pub(super) left: usize,
    pub(super) outcomes: Vec<(Course, Outcome)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(rules: &'a Builder, host: &'a HostView, hook: Hook) -> Self {
        Self { rules, host, hook, left: MAX_EVALUATIONS, outcomes: Vec::new() }
    }

    /// The courses through a base chain, each with its end.
    pub(super) fn base(mut self, index: usize, courses: Vec<Course>) -> Vec<(Course, Outcome)> {
        let Some(base) = self.rules.bases.get(index) else { return Vec::new() };
        let policy = if base.accepts { Outcome::Accept } else { Outcome::Drop(By::Policy(index)) };
        let passed = self.chain(base.chain, courses, 0);
        let decided = passed.into_iter().map(|course| (course, policy));
        self.outcomes.extend(decided);
        let mut kept: Vec<(Course, Outcome)> = Vec::new();
        for (course, outcome) in self.outcomes {
            match kept.iter_mut().find(|(other, end)| *end == outcome && other.is_like(&course)) {
                Some((other, _)) => keep_common(other, &course),
                None => kept.push((course, outcome)),
            }
        }
        kept
    }

    /// Courses that reach the end of a chain or return from it.
    fn chain(&mut self, index: usize, mut courses: Vec<Course>, depth: usize) -> Vec<Course> {
        let Some(chain) = self.rules.chains.get(index) else { return courses };
        if depth > MAX_DEPTH {
            self.open(courses, None);
            return Vec::new();
        }
        let mut returned = Vec::new();
        for (position, rule) in chain.rules.iter().enumerate() {
            if courses.is_empty() {
                break;
            }
            let mut next = Vec::with_capacity(courses.len());
            for course in courses {
                let Some(left) = self.left.checked_sub(1) else {
                    self.open(vec![course], None);
                    continue;
                };
                self.left = left;
                self.rule((index, position), rule, course, depth, &mut next, &mut returned);
            }
            courses = self.merged(next);
        }
        returned.append(&mut courses);
        self.merged(returned)
    }

    fn open(&mut self, courses: Vec<Course>, rule: Option<RuleId>) {
        self.outcomes.extend(courses.into_iter().map(|course| (course, Outcome::Open(rule))));
    }

    fn merged(&mut self, courses: Vec<Course>) -> Vec<Course> {
        if courses.len() < 2 {
            return courses;
        }
        let mut kept: Vec<Course> = Vec::with_capacity(courses.len());
        for course in courses {
            match kept.iter().position(|other| other.is_like(&course)) {
                Some(at) => keep_common(&mut kept[at], &course),
                None if kept.len() >= MAX_COURSES => self.open(vec![course], None),
                None => kept.push(course),
            }
        }
        kept
    }

    fn rule(
        &mut self,
        id: RuleId,
        rule: &FilterRule,
        mut course: Course,
        depth: usize,
        next: &mut Vec<Course>,
        returned: &mut Vec<Course>,
    ) {
        for step in &rule.steps {
            match step {
                Step::Test(condition) => {
                    let scene =
                        Scene { packet: &course.packet, tracked: course.tracked, host: self.host, sets: &self.rules.sets };
                    match scene.answer(condition) {
                        Answer::Yes => {}
                        Answer::No => return next.push(course),
                        Answer::Open if course.trail.last() == Some(&(id, true)) => {}
                        Answer::Open => {
                            let mut without = course.clone();
                            without.assume(id, false);
                            next.push(without);
                            course.assume(id, true);
                        }
                    }
                }
                Step::Do(action) => match self.act(id, action, course, depth, next, returned) {
                    Some(continued) => course = continued,
                    None => return,
                },
            }
        }
        next.push(course);
    }

    /// Returns the course if the rule continues.
    fn act(
        &mut self,
        id: RuleId,
        action: &Action,
        mut course: Course,
        depth: usize,
        next: &mut Vec<Course>,
        returned: &mut Vec<Course>,
    ) -> Option<Course> {
        match action {
            Action::Accept => self.outcomes.push((course, Outcome::Accept)),
            Action::Drop => self.outcomes.push((course, Outcome::Drop(By::Rule(id)))),
            Action::Reject => self.outcomes.push((course, Outcome::Reject(By::Rule(id)))),
            Action::External => self.open(vec![course], Some(id)),
            Action::Return => returned.push(course),
            Action::Jump(chain) => next.extend(self.chain(*chain, vec![course], depth + 1)),
            Action::Goto(chain) => returned.extend(self.chain(*chain, vec![course], depth + 1)),
            Action::NoTrack => {
                if !course.tracked {
                    course.packet.state = State::Untracked;
                }
                return Some(course);
            }
            Action::SetMark(change) => {
                let is_of_packet = matches!(change, MarkChange::Packet { .. } | MarkChange::PacketUnknown);
                if is_of_packet || has_entry(&course.packet, course.tracked) {
                    set_mark(&mut course.packet, *change);
                } else if matches!(change, MarkChange::Restore { .. }) && self.rules.chains[id.0].backend == Backend::Native {
                    // without an entry, reading its mark ends an nft rule
                    next.push(course);
                    return None;
                }
                return Some(course);
            }
            Action::Nat(translation) => match translated(&course, translation, self.host, self.hook, &self.rules.sets) {
                Some(translations) if translations.is_empty() => next.push(course),
                Some(translations) => {
                    let several = translations.len() > 1;
                    for mut one in translations {
                        if several {
                            one.assume(id, true);
                        }
                        self.outcomes.push((one, Outcome::Accept));
                    }
                }
                None => self.open(vec![course], Some(id)),
            },
            Action::Map { keys, set } => {
                self.map(id, keys, *set, course, depth, next, returned);
            }
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "the rule and both lists of its courses")]
    fn map(
        &mut self,
        id: RuleId,
        keys: &[Key],
        set: usize,
        mut course: Course,
        depth: usize,
        next: &mut Vec<Course>,
        returned: &mut Vec<Course>,
    ) {
        let rules = self.rules;
        let Some(set) = rules.sets.get(set) else { return self.open(vec![course], Some(id)) };
        let scene = Scene { packet: &course.packet, tracked: course.tracked, host: self.host, sets: &rules.sets };
        let values: Vec<Value<'_>> = keys.iter().map(|key| scene.value(key)).collect();
        if values.contains(&Value::Absent) {
            return next.push(course);
        }
        let is_open = values.contains(&Value::Unknown);
        let mut fitting = Vec::new();
        for element in &set.elements {
            let answer = fit(&values, &element.spans);
            if answer != Answer::No {
                fitting.push((answer, element.action.as_ref().unwrap_or(&Action::External)));
            }
            if answer == Answer::Yes {
                break;
            }
        }
        for (answer, action) in fitting {
            if answer == Answer::Yes {
                let continued = self.act(id, action, course, depth, next, returned);
                return next.extend(continued);
            }
            let mut with = course.clone();
            with.assume(id, true);
            let continued = self.act(id, action, with, depth, next, returned);
            next.extend(continued);
        }
        if !set.is_complete {
            let mut with = course.clone();
            with.assume(id, true);
            self.open(vec![with], Some(id));
        }
        if !(is_open && set.is_exhaustive) {
            if is_open || !set.is_complete {
                course.assume(id, false);
            }
            next.push(course);
        }
    }
}

/// Keeps the assumptions that both courses share.
fn keep_common(kept: &mut Course, other: &Course) {
    kept.trail.retain(|assumption| other.trail.contains(assumption));
}

fn set_mark(packet: &mut Packet, change: MarkChange) {
    let changed = |mark: Option<u32>, keep: u32, toggle: u32| match mark {
        Some(mark) => Some(mark & keep ^ toggle),
        None => (keep == 0).then_some(toggle),
    };
    match change {
        MarkChange::Packet { keep, toggle } => packet.mark = changed(packet.mark, keep, toggle),
        MarkChange::Connection { keep, toggle } => packet.ct_mark = changed(packet.ct_mark, keep, toggle),
        MarkChange::Restore { keep, of } => {
            packet.mark = packet.ct_mark.and_then(|ct| changed(packet.mark, keep, ct & of));
        }
        MarkChange::Save { keep, of } => {
            packet.ct_mark = packet.mark.and_then(|mark| changed(packet.ct_mark, keep, mark & of));
        }
        MarkChange::PacketUnknown => packet.mark = None,
        MarkChange::ConnectionUnknown => packet.ct_mark = None,
    }
}
