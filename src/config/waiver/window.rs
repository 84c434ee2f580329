//! Period of a waiver. All times are UTC: opsctl has no time zone data.

use jiff::civil::{Time, Weekday};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use opsctl_core::model::quantity;
use serde::{Deserialize, Serialize};

/// Start and end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Window {
    /// Once.
    Once {
        /// Start.
        from: Timestamp,
        /// End (exclusive).
        until: Timestamp,
    },
    /// Recurring, for planned work.
    Weekly {
        /// Days of the start, `mon` to `sun`; empty for every day.
        days: Vec<String>,
        /// Start (UTC).
        from: Time,
        /// End (UTC); a time before the start is on the next day.
        until: Time,
    },
}

/// Names of the days, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Window {
    /// A window of the configuration: times of day, or timestamps.
    pub fn parse(from: Option<&str>, until: &str, days: &[String]) -> Result<Self, String> {
        let of_day = |text: &str| Time::strptime("%H:%M", text).ok();
        if let Some(until) = of_day(until) {
            let from = from.ok_or("a window that ends at a time of day needs `from` too")?;
            let from = of_day(from).ok_or_else(|| format!("`{from}` is not a time of day such as `02:00`"))?;
            let known = |d: &String| d.get(..3).map(str::to_lowercase).filter(|d| DAYS.contains(&d.as_str()));
            let days: Option<Vec<String>> = days.iter().map(known).collect();
            return Ok(Self::Weekly { days: days.ok_or("`days` are mon, tue, wed, thu, fri, sat, sun")?, from, until });
        }
        let moment = |text: &str| {
            text.parse::<Timestamp>().map_err(|_| {
                format!("`{text}` is neither a moment such as `2026-12-01T04:00:00Z` nor a time of day such as `04:00`")
            })
        };
        if !days.is_empty() {
            return Err("`days` go with times of day such as `04:00`".to_owned());
        }
        let until = moment(until)?;
        let from = from.map(moment).transpose()?.unwrap_or(Timestamp::UNIX_EPOCH);
        if from >= until { Err("it ends before it begins".to_owned()) } else { Ok(Self::Once { from, until }) }
    }

    /// Whether the window includes this time.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Once { from, until } => (*from..*until).contains(&now),
            Self::Weekly { .. } => self.occurrence(now).is_some(),
        }
    }

    /// End of the current occurrence, if any.
    #[must_use]
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { until, .. } => Some(*until),
            Self::Weekly { .. } => self.occurrence(now),
        }
    }

    /// End of the window if it is over; a recurring window never is.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { until, .. } => (*until <= now).then_some(*until),
            Self::Weekly { .. } => None,
        }
    }

    /// The end of the occurrence that includes `now`.
    fn occurrence(&self, now: Timestamp) -> Option<Timestamp> {
        let Self::Weekly { days, from, until } = self else { return None };
        let length = if until > from { from.duration_until(*until) } else { DAY + from.duration_until(*until) };
        // it may have started yesterday
        [SignedDuration::ZERO, DAY].into_iter().find_map(|back| {
            let date = (now - back).to_zoned(TimeZone::UTC).date();
            let named = days.is_empty() || days.iter().any(|d| *d == day_name(date.weekday()));
            let start = date.to_datetime(*from).to_zoned(TimeZone::UTC).ok()?.timestamp();
            let end = start.checked_add(length).ok()?;
            (named && (start..end).contains(&now)).then_some(end)
        })
    }
}

fn day_name(day: Weekday) -> &'static str {
    DAYS.get(usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)).copied().unwrap_or_default()
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Once { from, until } if *from == Timestamp::UNIX_EPOCH => write!(f, "until {}", quantity::minute(*until)),
            Self::Once { from, until } => write!(f, "{} to {}", quantity::minute(*from), quantity::minute(*until)),
            Self::Weekly { days, from, until } => {
                let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
                write!(f, "{days} {} to {} UTC", from.strftime("%H:%M"), until.strftime("%H:%M"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn holds(window: &Window, at: &str) -> bool {
        window.holds(at.parse().unwrap())
    }

    #[test]
    fn recurring_window_may_cross_midnight() {
        let night = Window::parse(Some("23:00"), "02:00", &["Sat".to_owned()]).unwrap();
        // 2026-11-21 is a Saturday
        assert!(holds(&night, "2026-11-21T23:00:00Z") && holds(&night, "2026-11-22T01:59:00Z"));
        for not in ["2026-11-21T22:59:00Z", "2026-11-22T02:00:00Z", "2026-11-22T23:30:00Z", "2026-11-21T00:30:00Z"] {
            assert!(!holds(&night, not), "{not}");
        }
        assert_eq!(night.ends("2026-11-22T00:00:00Z".parse().unwrap()), Some("2026-11-22T02:00:00Z".parse().unwrap()));
        let daily = Window::parse(Some("02:00"), "04:00", &[]).unwrap();
        assert!(holds(&daily, "2026-11-24T03:00:00Z") && !holds(&daily, "2026-11-24T04:00:00Z"));
        assert_eq!(daily.to_string(), "every day 02:00 to 04:00 UTC");
    }

    #[test]
    fn invalid_window_is_rejected() {
        let wrong = |from, until, days: &[&str]| {
            let days: Vec<String> = days.iter().map(|d| (*d).to_owned()).collect();
            Window::parse(from, until, &days).unwrap_err()
        };
        assert!(wrong(None, "04:00", &[]).contains("needs `from`"));
        assert!(wrong(Some("25:00"), "04:00", &[]).contains("25:00"));
        assert!(wrong(Some("02:00"), "04:00", &["sometimes"]).contains("mon, tue"));
        assert!(wrong(None, "tomorrow", &[]).contains("tomorrow"));
        assert!(wrong(Some("2026-01-02T00:00:00Z"), "2026-01-01T00:00:00Z", &[]).contains("before it begins"));
    }
}
