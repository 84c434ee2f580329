//! Limits of the remaining validity, as a share of a certificate's lifetime, so that six-day and one-year
//! certificates are both judged correctly.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Judged, Limits, Measure, Severity, Unit, quantity};
use opsctl_core::probe::tls::Certificate;

use super::Settings;

/// The severity of the remaining validity: crit below the smaller of 7 days and a tenth of the
/// lifetime, warn below the smaller of
/// 21 days and a quarter; otherwise `None`.
pub(super) fn too_short(settings: &Settings, c: &Certificate, now: Timestamp) -> Option<Severity> {
    let left = c.not_after.duration_since(now).as_secs_f64();
    if left <= 0.0 {
        return Some(Severity::Crit);
    }
    limits(settings, c).exceeded(left).map(|(severity, _)| severity)
}

/// The limits of the remaining validity for warn and crit, in seconds.
fn limits(settings: &Settings, c: &Certificate) -> Limits {
    let life = c.not_after.duration_since(c.not_before).as_secs_f64();
    let limit = |days: f64, share: f64| (days * 86400.0).min(life * share / 100.0);
    let (warn, crit) = (limit(settings.warn_days, settings.warn_share), limit(settings.crit_days, settings.crit_share));
    Limits::less_than(Unit::Seconds, warn, crit)
}

/// The remaining validity with its limits, as a measure.
pub(super) fn measure(settings: &Settings, judged: &Judged<'_>, c: &Certificate) -> Measure {
    let left = c.not_after.duration_since(judged.taken_at).as_secs_f64();
    Measure::new(judged.target, "expires_in", Unit::Seconds, left).within(limits(settings, c))
}

/// `expires in 3 d`, `expired 5 h ago`.
pub(super) fn words(c: &Certificate, now: Timestamp) -> String {
    let left = c.not_after.duration_since(now);
    if left > SignedDuration::ZERO {
        format!("expires in {}", quantity::duration(left))
    } else {
        format!("expired {}", quantity::ago(now, c.not_after))
    }
}

/// `2026-11-21, valid for 90 d in total`.
pub(super) fn life(c: &Certificate) -> String {
    let life = c.not_after.duration_since(c.not_before);
    format!("{}, valid for {} in total", quantity::minute(c.not_after), quantity::duration(life))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn expiry_limits_scale_with_certificate_lifetime() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let judged = |life_days: f64, left_hours: f64| {
            let at = |hours: f64| now.checked_add(SignedDuration::try_from_secs_f64(hours * 3600.0).unwrap()).unwrap();
            let c = Certificate {
                not_before: at(left_hours - life_days * 24.0),
                not_after: at(left_hours),
                ..Certificate::default()
            };
            match too_short(&Settings::default(), &c, now) {
                None => "ok",
                Some(Severity::Warn) => "warn",
                _ => "crit",
            }
        };
        // life in days, hours left (warn/crit: 90 d -> 21/7 d, 64 -> 16/6.4, 45 -> 11.25/4.5, 6 -> 36/14.4 h, 398 -> 21/7 d)
        for (life, left, verdict) in [
            (90.0, 22.0 * 24.0, "ok"),
            (90.0, 20.0 * 24.0, "warn"),
            (90.0, 6.0 * 24.0, "crit"),
            (64.0, 17.0 * 24.0, "ok"),
            (64.0, 15.0 * 24.0, "warn"),
            (64.0, 6.3 * 24.0, "crit"),
            (45.0, 12.0 * 24.0, "ok"),
            (45.0, 11.0 * 24.0, "warn"),
            (45.0, 4.0 * 24.0, "crit"),
            (6.0, 96.0, "ok"),
            (6.0, 37.0, "ok"),
            (6.0, 35.0, "warn"),
            (6.0, 14.0, "crit"),
            (398.0, 22.0 * 24.0, "ok"),
            (398.0, 20.0 * 24.0, "warn"),
            (398.0, 24.0, "crit"),
            (398.0, -1.0, "crit"),
        ] {
            assert_eq!(judged(life, left), verdict, "{life} days, {left} hours left");
        }
    }
}
