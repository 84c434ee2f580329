//! The kill switch before every action, and the rate limits.

use super::scripted::*;
use super::*;

/// A fixture with a kill switch that is set during this recheck; the finding is reported until the fix is verified.
fn set_during(recheck: usize) -> Fixture {
    let f = Fixture::new();
    let file = f.kill_switch.clone();
    *f.engine.during.borrow_mut() = Some((recheck, Box::new(move || std::fs::write(&file, "").unwrap())));
    f
}

#[test]
fn kill_switch_refuses_yes_and_prompt_alike() {
    for yes in [true, false] {
        let mut f = Fixture::new();
        let plan = f.plan();
        f.options.yes = yes;
        f.answer(Confirmation::Yes);
        std::fs::write(&f.kill_switch, "").unwrap();
        assert_eq!(f.fix(&offer(&plan)), Exit::Refused);
        assert!(
            f.output().starts_with("refused: fixes are switched off by /") && f.output().contains("/no-fixes since 20"),
            "{}",
            f.output()
        );
        assert!(!f.marker.exists() && f.journal().is_empty() && f.engine.rechecks() == 0);
        assert!(f.person.prompts.borrow().is_empty());
    }
}

#[test]
fn kill_switch_leaves_dry_run_and_undo() {
    let mut f = Fixture::new();
    let plan = f.plan();
    f.engine.returns(failing(&plan)).returns(healthy());
    assert_eq!(f.fix(&offer(&plan)), Exit::Done);
    std::fs::write(&f.kill_switch, "").unwrap();
    f.options.dry_run = true;
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Declined);
    f.options.dry_run = false;
    f.engine.returns(failing(&plan));
    assert_eq!(f.undo(2), Exit::Done);
    assert!(!f.marker.exists());
}

#[test]
fn kill_switch_set_between_plan_and_act_stops_the_fix() {
    let mut f = set_during(1);
    let plan = f.plan();
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Refused);
    assert!(!f.marker.exists() && f.journal().is_empty(), "{}", f.output());
}

#[test]
fn kill_switch_set_while_the_prompt_waits_stops_the_fix() {
    let mut f = set_during(2);
    let plan = f.plan();
    f.options.yes = false;
    f.answer(Confirmation::Yes);
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Refused);
    assert!(!f.marker.exists() && f.journal().is_empty(), "{}", f.output());
}

#[test]
fn kill_switch_set_before_the_rollback_leaves_the_change() {
    let mut f = set_during(2);
    let plan = f.plan();
    f.engine.returns(failing(&plan));
    assert_eq!(f.fix(&offer(&plan)), Exit::Unverified);
    assert!(f.marker.exists(), "nothing was reverted: {}", f.output());
    assert!(f.last().text.contains("not reverted, because fixes are switched off"), "{}", f.last().text);
    assert!(f.output().contains("`opsctl undo 1` reverts it"), "{}", f.output());
    f.engine.returns(failing(&plan));
    assert_eq!(f.undo(1), Exit::Done);
    assert!(!f.marker.exists());
}

/// Applies the fix to these subjects and returns the exit statuses.
fn to_each(f: &mut Fixture, subjects: &[(&str, &str)]) -> Vec<Exit> {
    let mut exits = Vec::new();
    for (name, identity) in subjects {
        let mut plan = f.plan();
        (plan.subject.name, plan.subject.id) = ((*name).to_owned(), (*identity).to_owned());
        f.engine.returns(failing(&plan)).returns(healthy());
        exits.push(f.fix(&offer(&plan)));
    }
    exits
}

#[test]
fn rename_does_not_reset_the_rate_limit() {
    let mut f = Fixture::new();
    let renamed = [("a", "id@1"), ("b", "id@2"), ("c", "id@3"), ("d", "id@4")];
    assert_eq!(to_each(&mut f, &renamed), [Exit::Done, Exit::Done, Exit::Done, Exit::Held]);
    assert!(f.output().contains("demo.repair was applied to container:d 3 times within the last hour"), "{}", f.output());
    // another container has its own limit
    assert_eq!(to_each(&mut f, &[("e", "other@1")]), [Exit::Done]);
}

#[test]
fn many_subjects_share_the_rate_limit_of_the_fix() {
    let mut f = Fixture::new();
    f.policy.max_per_fix = 2;
    assert_eq!(to_each(&mut f, &[("a", "1"), ("b", "2"), ("c", "3")]), [Exit::Done, Exit::Done, Exit::Held]);
    assert!(f.output().contains("(max_fixes_per_hour_per_fix = 2)"), "{}", f.output());
}

#[test]
fn many_fixes_share_the_rate_limit_of_the_host() {
    let mut f = Fixture::new();
    f.policy.max_per_host = 2;
    for n in 0..2 {
        let mut other = f.plan();
        other.fix = format!("demo.other-{n}");
        f.append(Body::intent(&other, "it is broken"));
        f.append(Body::outcome(2 * n + 1, None, None, Ending::Verified, ""));
    }
    assert_eq!(to_each(&mut f, &[("a", "1")]), [Exit::Held]);
    assert!(f.output().contains("fixes were applied on this host 2 times within the last hour"), "{}", f.output());
}

#[test]
fn rate_limit_of_zero_allows_nothing() {
    for which in [0, 1, 2] {
        let mut f = Fixture::new();
        let policy = &mut f.policy;
        *[&mut policy.max_fixes_per_hour, &mut policy.max_per_fix, &mut policy.max_per_host][which] = 0;
        assert_eq!(to_each(&mut f, &[("a", "1")]), [Exit::Refused]);
    }
}
