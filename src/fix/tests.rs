#![allow(clippy::unwrap_used, reason = "tests")]

mod kill;
mod live;
mod points;
mod scripted;
mod switch;
mod terminal;
mod undo;

use std::time::Duration;

use opsctl_core::model::{Refusal, Risk, Severity, Verdict};
use scripted::*;

use super::*;
use crate::audit::{Body, Ending, Kind};
use crate::state::Lock;

#[test]
fn a_fix_is_planned_applied_verified_and_journalled() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.engine.returns(failing(&plan)).returns(healthy());
    assert_eq!(f.fix(&offer(&plan)), Exit::Done);
    assert!(f.marker.exists());
    let journal = f.journal();
    assert_eq!(
        journal.iter().map(|e| (e.seq, e.body.kind, e.body.of, e.body.ending)).collect::<Vec<_>>(),
        [(1, Kind::Intent, None, None), (2, Kind::Outcome, Some(1), Some(Ending::Verified)),]
    );
    assert_eq!(journal[0].body.plan.as_ref(), Some(&plan));
    assert_eq!(journal[0].body.text, "demo.broken: web is broken");
    let output = f.output().replace(f.dir.path().to_str().unwrap(), "DIR");
    let output = regex::Regex::new("after [0-9.]+ s").unwrap().replace(&output, "after T");
    insta::assert_snapshot!(output, @"
    fix       demo.repair on container:web (R2: one object is interrupted)
    because   demo.broken: web is broken
    does      /usr/bin/touch DIR/marker
    affects   proxy depends on web
    downtime  about 2 s
    undo      /usr/bin/rm DIR/marker
    recurs    after a recreate
    verified  when demo.check no longer reports demo.broken within 0 s
    applied; verifying with demo.check
    verified: demo.broken resolved after T
    opsctl undo 2 reverts it
    ");
}

#[test]
fn dry_run_shows_the_plan_and_writes_nothing() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.options.dry_run = true;
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Declined);
    assert!(f.output().contains("does ") && f.output().ends_with("dry run: nothing was changed\n"));
    assert!(!f.marker.exists() && !f.state.exists());
}

#[test]
fn held_lock_stops_before_the_recheck() {
    let mut f = Fixture::new();
    let plan = f.plan();
    let _other = Lock::take(&f.lock).unwrap();
    for dry_run in [false, true] {
        f.options.dry_run = dry_run;
        assert_eq!(f.fix(&offer(&plan)), Exit::Held);
    }
    assert!(f.output().contains(&format!("another opsctl (pid {}) is changing this host", std::process::id())));
    assert_eq!(f.engine.rechecks(), 0);
}

#[test]
fn changes_since_the_plan_stop_the_fix() {
    let plan = Fixture::new().plan();
    let mut elsewhere = plan.clone();
    elsewhere.subject.id = "other@later".into();
    let mut milder = plan.clone();
    milder.downtime = "none".into();
    let unknown = Recheck { verdict: Verdict::Unknown("docker does not answer".into()), ..healthy() };
    let removed = Recheck { verdict: Verdict::Skip("container web no longer exists".into()), ..healthy() };
    let mut refusing = failing(&plan);
    refusing.offers[0].plan = Err(Refusal::Precondition("port 80 is taken".into()));
    for (now, why) in [
        (healthy(), "demo.check no longer reports demo.broken for container:web"),
        (failing(&elsewhere), "container:web is now other@later, it was id@then"),
        (failing(&milder), "another plan fits container:web now"),
        (unknown, "demo.check could not be repeated: docker does not answer"),
        (removed, "container web no longer exists"),
        (refusing, "port 80 is taken"),
    ] {
        let mut f = Fixture::new();
        f.engine.returns(now);
        assert_eq!(f.fix(&offer(&plan)), Exit::Changed);
        assert!(f.output().contains(&format!("changed since the plan: {why}")), "{}", f.output());
        assert!(f.journal().is_empty());
    }
}

#[test]
fn refusals_hold_even_with_yes() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.options = FixOptions { yes: true, risk: Some(Risk::R3), dry_run: false };
    f.engine.returns(failing(&plan));
    let open = Offer { refused: Some("its cause disk.space on mount:/ is open".into()), ..offer(&plan) };
    assert_eq!(f.fix(&open), Exit::Refused);
    assert!(f.output().contains("refused: its cause disk.space on mount:/ is open"));
    let mut waived = offer(&plan);
    waived.finding.waived = Some("until noon: known".into());
    assert_eq!(f.fix(&waived), Exit::Refused);
    // known to the recheck, not to the earlier diagnosis
    let mut maintained = failing(&plan);
    maintained.offers[0].refused = Some("web is in maintenance".into());
    f.engine.returns(maintained);
    assert_eq!(f.fix(&offer(&plan)), Exit::Refused);
    for (refusal, exit) in [
        (Refusal::Precondition("no room".into()), Exit::Refused),
        (Refusal::Policy("a database".into()), Exit::Refused),
        (Refusal::ByHand("docker compose up -d web".into()), Exit::Declined),
    ] {
        assert_eq!(f.fix(&Offer { plan: Err(refusal), ..offer(&plan) }), exit);
    }
    assert!(f.output().contains("to be done by hand: docker compose up -d web"));
    assert!(f.journal().is_empty() && !f.marker.exists());
}

#[test]
fn rate_limit_holds_a_repeated_fix() {
    let mut f = Fixture::new();
    let plan = f.plan();
    for _ in 0..3 {
        f.engine.returns(failing(&plan)).returns(healthy());
        assert_eq!(f.fix(&offer(&plan)), Exit::Done);
    }
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Held);
    assert!(f.output().contains("demo.repair was applied to container:web 3 times within the last hour"), "{}", f.output());
    f.policy.max_fixes_per_hour = 0;
    assert_eq!(f.fix(&offer(&plan)), Exit::Refused);
    f.policy.max_fixes_per_hour = 3;
    // another subject has its own limit
    let mut other = plan.clone();
    (other.subject.name, other.subject.id) = ("db".into(), "other@then".into());
    f.engine.returns(failing(&other)).returns(healthy());
    assert_eq!(f.fix(&offer(&other)), Exit::Done);
}

#[test]
fn consent_depends_on_the_risk() {
    let attempt = |risk: Risk, options: FixOptions, answer: Confirmation, allow: &[&str]| {
        let mut f = Fixture::new();
        let plan = opsctl_core::model::Plan { risk, ..f.plan() };
        f.options = options;
        f.answer(answer);
        f.policy.allow = allow.iter().map(|a| (*a).to_owned()).collect();
        f.engine.returns(failing(&plan)).returns(failing(&plan)).returns(healthy());
        if f.person.answer.get() != Confirmation::Yes || options.yes {
            f.engine.forget(1);
        }
        let exit = f.fix(&offer(&plan));
        assert_eq!(f.marker.exists(), exit == Exit::Done);
        (exit, f.person.prompts.borrow().first().cloned())
    };
    let bare = FixOptions::default();
    let yes = FixOptions { yes: true, ..bare };
    let yes_r3 = FixOptions { risk: Some(Risk::R3), ..yes };
    let yes_r1 = FixOptions { risk: Some(Risk::R1), ..yes };
    let yes_no = |text: &str| Some(Prompt::YesNo(text.into()));
    assert_eq!(attempt(Risk::R1, bare, Confirmation::Yes, &[]), (Exit::Done, yes_no("apply demo.repair?")));
    assert_eq!(
        attempt(Risk::R2, bare, Confirmation::Yes, &[]),
        (Exit::Done, yes_no("apply demo.repair and interrupt container:web?"))
    );
    let (exit, question) = attempt(Risk::R3, bare, Confirmation::Yes, &[]);
    assert!(exit == Exit::Done && matches!(question, Some(Prompt::TypeName { name, .. }) if name == "web"));
    for risk in [Risk::R1, Risk::R2, Risk::R3] {
        assert_eq!(attempt(risk, bare, Confirmation::No, &[]).0, Exit::Declined);
        assert_eq!(attempt(risk, bare, Confirmation::NoTerminal, &[]).0, Exit::Declined);
    }
    assert_eq!(attempt(Risk::R1, yes, Confirmation::NoTerminal, &[]), (Exit::Done, None));
    assert_eq!(attempt(Risk::R2, yes, Confirmation::NoTerminal, &[]), (Exit::Done, None));
    assert_eq!(attempt(Risk::R2, yes_r1, Confirmation::NoTerminal, &[]).0, Exit::Declined);
    assert_eq!(attempt(Risk::R3, yes, Confirmation::NoTerminal, &["demo.repair"]).0, Exit::Declined);
    assert_eq!(attempt(Risk::R3, yes_r3, Confirmation::Yes, &[]), (Exit::Refused, None));
    assert_eq!(attempt(Risk::R3, yes_r3, Confirmation::NoTerminal, &["demo.repair"]), (Exit::Done, None));
    for options in [bare, yes, yes_r3, FixOptions { risk: Some(Risk::R4), ..yes }] {
        assert_eq!(attempt(Risk::R4, options, Confirmation::Yes, &["demo.repair"]), (Exit::Declined, None));
    }
}

#[test]
fn changes_during_the_prompt_stop_the_fix() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.options.yes = false;
    f.answer(Confirmation::Yes);
    f.engine.returns(failing(&plan)).returns(healthy());
    assert_eq!(f.fix(&offer(&plan)), Exit::Changed);
    assert!(!f.marker.exists() && f.journal().is_empty());
}

#[test]
fn failed_action_is_journalled_and_completed_actions_are_reverted() {
    let mut f = Fixture::new();
    let broken = own("ls", &["/no/such"]);
    let plan = opsctl_core::model::Plan { actions: vec![broken.clone()], ..f.plan() };
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Failed);
    assert_eq!(f.last().ending, Some(Ending::Failed));
    assert!(f.output().contains("`/usr/bin/ls /no/such` failed: ls ended with exit status: 2"), "{}", f.output());
    let mut two = f.plan();
    two.actions.push(broken);
    f.engine.returns(failing(&two));
    assert_eq!(f.fix(&offer(&two)), Exit::Failed);
    assert_eq!((f.last().ending, f.marker.exists()), (Some(Ending::Undone), false));
    assert_eq!(crate::audit::in_flight(&f.journal()).len(), 0);
}

#[test]
fn unverified_fix_is_reverted_if_possible() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified);
    assert_eq!((f.last().ending, f.marker.exists()), (Some(Ending::Undone), false));
    assert!(f.last().text.starts_with("applied but not verified within 0 s: web is broken"), "{}", f.last().text);

    let lasting = opsctl_core::model::Plan { undo: vec![], ..plan.clone() };
    f.engine.returns(failing(&lasting));
    assert_eq!(f.fix(&offer(&lasting)), Exit::Unverified);
    assert_eq!((f.last().ending, f.marker.exists()), (Some(Ending::Unverified), true));

    let stuck = opsctl_core::model::Plan { undo: vec![own("false", &[])], ..plan };
    f.engine.returns(failing(&stuck));
    assert_eq!(f.fix(&offer(&stuck)), Exit::Unverified);
    assert!(f.last().text.contains("reverting failed too: `/usr/bin/false` failed"), "{}", f.last().text);
}

#[test]
fn less_severe_finding_of_a_pending_object_is_not_verified_yet() {
    let plan = Fixture::new().plan();
    let before = verify::Before::of(&plan, &failing(&plan));
    let fresh = |severity: Severity, pending: &[&str], offers: bool| {
        let mut fresh = failing(&plan);
        let finding = &mut fresh.findings[0].finding;
        finding.severity = severity;
        if !offers {
            finding.fixes.clear();
        }
        fresh.pending = pending.iter().map(|p| (*p).to_owned()).collect();
        fresh
    };
    assert!(before.is_pending(&plan, &fresh(Severity::Warn, &["web to run"], false)));
    assert!(!before.is_pending(&plan, &fresh(Severity::Crit, &["web to run"], false)), "as severe as before");
    assert!(!before.is_pending(&plan, &fresh(Severity::Warn, &[], false)), "nothing is awaited");
    assert!(!before.is_pending(&plan, &fresh(Severity::Warn, &["web to run"], true)), "the fix did not help");
    assert!(!before.is_pending(&plan, &healthy()), "resolved");
}

#[test]
fn unknown_verdict_does_not_verify_a_fix() {
    let plan = Fixture::new().plan();
    let other = |code: &str, severity: Severity| {
        let mut now = failing(&plan);
        now.findings[0].finding.code = code.into();
        now.findings[0].finding.severity = severity;
        now
    };
    let unknown = Recheck { verdict: Verdict::Unknown("docker does not answer".into()), ..healthy() };
    let skip = Recheck { verdict: Verdict::Skip("container web no longer exists".into()), ..healthy() };
    for (now, exit) in [
        (unknown, Exit::Unverified),
        (skip, Exit::Unverified),
        (other("demo.worse", Severity::Crit), Exit::Unverified),
        (other("demo.worse", Severity::Warn), Exit::Done),
    ] {
        let mut f = Fixture::new();
        let plan = f.plan();
        f.engine.returns(failing(&plan)).returns(now);
        assert_eq!(f.fix(&offer(&plan)), exit, "{}", f.output());
    }
}

/// A recheck without the finding, and with a fact that could not be read.
fn with_gap(gap: &str) -> Recheck {
    Recheck { verdict: Verdict::Unknown(gap.into()), gaps: vec![gap.into()], ..healthy() }
}

#[test]
fn gap_from_before_the_fix_does_not_count_against_it() {
    for (before, after, exit) in [
        (Some("docker did not answer within 2.1 s"), "docker did not answer within 2.4 s", Exit::Done),
        (Some("the rules could not be read"), "docker did not answer within 2.4 s", Exit::Unverified),
        (None, "docker did not answer within 2.4 s", Exit::Unverified),
    ] {
        let mut f = Fixture::new();
        let plan = f.plan();
        let gaps = before.into_iter().map(str::to_owned).collect();
        f.engine.returns(Recheck { gaps, ..failing(&plan) }).returns(with_gap(after));
        assert_eq!(f.fix(&offer(&plan)), exit, "{}", f.output());
    }
}

#[test]
fn fix_is_verified_by_the_facts_of_its_finding() {
    let run = |facts: &[&str], read: &[&str]| {
        let mut f = Fixture::new();
        let plan = f.plan();
        let names = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let mut before = failing(&plan);
        before.findings[0].finding.facts = names(facts);
        f.engine.returns(before).returns(Recheck { facts: names(read), ..with_gap("docker does not answer") });
        f.fix(&offer(&plan))
    };
    assert_eq!(run(&["the path web to api"], &["the path web to api", "the path job to api"]), Exit::Done);
    assert_eq!(run(&["the path web to api"], &["the path job to api"]), Exit::Unverified);
    assert_eq!(run(&[], &["the path web to api"]), Exit::Unverified);
}

#[test]
fn gap_beside_another_finding_is_no_verification() {
    let mut f = Fixture::new();
    let plan = f.plan();
    let mut after = failing(&plan);
    after.findings[0].finding.code = "demo.other".into();
    after.findings[0].finding.severity = Severity::Warn;
    f.engine.returns(failing(&plan)).returns(Recheck { verdict: Verdict::Warn, gaps: vec!["sessions".into()], ..after });
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified, "{}", f.output());
}

#[test]
fn finding_that_no_longer_offers_the_fix_is_open() {
    let mut f = Fixture::new();
    let plan = f.plan();
    let mut after = failing(&plan);
    after.findings[0].finding.fixes.clear();
    after.findings[0].finding.message = "web is broken for another reason".into();
    f.engine.returns(failing(&plan)).returns(after.clone());
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified);
    assert!(f.last().text.contains("web is broken for another reason"), "{}", f.last().text);
    // a finding of the same code that the fix was never for
    let mut before = failing(&plan);
    before.findings.extend(after.findings.clone());
    f.engine.returns(before).returns(after);
    assert_eq!(f.fix(&offer(&plan)), Exit::Done, "{}", f.output());
}

#[test]
fn finding_about_another_part_does_not_count_against_a_fix() {
    let mut f = Fixture::new();
    let plan = opsctl_core::model::Plan { part: "pid 812".into(), ..f.plan() };
    let about = |part: &str| {
        let mut recheck = failing(&plan);
        recheck.findings[0].finding.part = part.into();
        recheck.offers[0].finding.finding.part = part.into();
        recheck
    };
    f.engine.returns(about("pid 812")).returns(about("pid 900"));
    let offered = about("pid 812").offers.remove(0);
    assert_eq!(f.fix(&offered), Exit::Done, "{}", f.output());
    assert!(f.output().contains("fix       demo.repair on container:web pid 812"), "{}", f.output());
    f.engine.returns(about("pid 812"));
    assert_eq!(f.fix(&offered), Exit::Unverified);
}

#[test]
fn existing_other_finding_does_not_count_against_a_fix() {
    let mut f = Fixture::new();
    let plan = f.plan();
    let mut other = offer(&plan).finding;
    other.finding.code = "demo.other".into();
    let mut before = failing(&plan);
    before.findings.push(other.clone());
    let after = Recheck { verdict: Verdict::Crit, findings: vec![other], ..healthy() };
    f.engine.returns(before).returns(after);
    assert_eq!(f.fix(&offer(&plan)), Exit::Done, "{}", f.output());
}

#[test]
fn finding_must_not_recur_within_stable_for() {
    let run = |after: &[bool]| {
        let mut f = Fixture::new();
        let plan = opsctl_core::model::Plan {
            stable_for: Duration::from_millis(600),
            verify_within: Duration::from_millis(700),
            undo: vec![],
            ..f.plan()
        };
        f.engine.returns(failing(&plan));
        for ok in after {
            f.engine.returns(if *ok { healthy() } else { failing(&plan) });
        }
        (f.fix(&offer(&plan)), f.last().text)
    };
    let (exit, text) = run(&[false, true, true]);
    assert_eq!(exit, Exit::Done);
    assert!(text.ends_with(" and did not recur for 0.6 s"), "{text}");
    let (exit, text) = run(&[true, true, false]);
    assert_eq!(exit, Exit::Unverified);
    assert!(text.contains("it recurred: web is broken"), "{text}");
}

#[test]
fn interrupted_fix_is_checked_and_not_repeated() {
    let mut f = Fixture::new();
    let plan = f.plan();
    let mut other = plan.clone();
    other.subject.name = "db".into();
    f.append(Body::intent(&other, "it is broken"));
    f.append(Body::intent(&plan, "it is broken"));

    f.options.dry_run = true;
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified);
    assert_eq!(crate::audit::in_flight(&f.journal()).len(), 2, "a dry run writes nothing");
    assert_eq!(interrupted_notes(&f.journal()).len(), 2);

    f.options.dry_run = false;
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified);
    assert!(f.output().contains("during demo.repair on container:db (journal entry 1)"), "{}", f.output());
    assert!(f.output().contains("during demo.repair on container:web (journal entry 2)"));
    assert!(f.output().contains("checked again: web is broken; nothing was repeated"));
    assert!(f.output().contains("opsctl undo 4 reverts its completed part"), "{}", f.output());
    assert!(f.output().ends_with("run the command again to try again\n"));
    let endings: Vec<_> = f.journal().iter().filter_map(|e| e.body.ending).collect();
    assert_eq!((endings, f.marker.exists()), (vec![Ending::Interrupted; 2], false));

    // no operation is in progress any longer
    f.engine.returns(failing(&plan)).returns(healthy());
    assert_eq!(f.fix(&offer(&plan)), Exit::Done);

    // interrupted after it was effective: nothing left to do
    f.append(Body::intent(&plan, "it is broken"));
    f.engine.returns(healthy());
    assert_eq!(f.fix(&offer(&plan)), Exit::Done);
    assert_eq!(f.last().ending, Some(Ending::Interrupted));
}

#[test]
fn fix_that_cannot_be_journalled_is_not_applied() {
    let mut f = Fixture::new();
    let plan = f.plan();
    std::fs::create_dir(&f.state).unwrap();
    std::os::unix::fs::symlink("/dev/full", f.state.join(crate::audit::JOURNAL)).unwrap();
    f.engine.returns(failing(&plan));
    // reading /dev/full never ends, so the journal must not be read through the link either
    assert_eq!(f.fix(&offer(&plan)), Exit::Failed);
    assert!(!f.marker.exists());
    assert!(f.output().contains("nothing is done that cannot be journalled"), "{}", f.output());
}

#[test]
fn closed_output_does_not_stop_a_fix() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.engine.returns(failing(&plan)).returns(healthy());
    f.deaf = true;
    assert_eq!(f.fix(&offer(&plan)), Exit::Done);
    assert_eq!(f.last().ending, Some(Ending::Verified));
}

#[test]
fn secrets_are_neither_printed_nor_journalled() {
    let mut f = Fixture::new();
    let secret = "canary-83hd-0xff";
    let plan = opsctl_core::model::Plan { actions: vec![own("ls", &[&format!("/no/{secret}")])], ..f.plan() };
    let fresh = failing(&plan);
    fresh.redactor.learn(secret);
    f.engine.returns(fresh);
    assert_eq!(f.fix(&offer(&plan)), Exit::Failed);
    let journal = std::fs::read_to_string(f.state.join(crate::audit::JOURNAL)).unwrap();
    assert!(!journal.contains(secret), "{journal}");
    let after_plan = f.output().split("verified").last().unwrap().to_owned();
    assert!(!after_plan.contains(secret), "{after_plan}");
}

#[test]
fn exit_codes_are_those_of_the_design() {
    use Exit::{Changed, Declined, Done, Failed, Held, Refused, Unverified};
    let codes = [Done, Declined, Changed, Failed, Unverified, Held, Refused].map(Exit::code);
    assert_eq!(codes, [0, 10, 11, 12, 13, 14, 15]);
}
