//! Small plots as inline SVG: the history of a number and its distance to the limits.

use std::fmt::Write as _;

use jiff::Timestamp;
use opsctl_core::model::{Measure, Trend, Unit};

use super::markup::escape;
use super::view::{moment, words};

/// Width and height of a plot in its own units; the page scales it.
const SIZE: (f64, f64) = (300.0, 60.0);

/// Minimum share of the number that the height of a plot represents.
const MIN_SPAN: f64 = 0.1;

/// A number for display; fractions of a second are shown in milliseconds.
fn shown(unit: Unit, value: f64) -> String {
    if unit == Unit::Seconds && value != 0.0 && value.abs() < 1.0 {
        format!("{} ms", (value * 10_000.0).round() / 10.0)
    } else {
        unit.shown(value)
    }
}

/// A line of earlier values, with the limit as a dashed line and labels at both ends.
pub(super) fn sparkline(trend: &Trend) -> String {
    let points: Vec<(Timestamp, f64)> = trend.points.iter().copied().filter(|(_, v)| v.is_finite()).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let limit = trend.limit.filter(|l| l.is_finite());
    let values = points.iter().map(|(_, v)| *v).chain(limit);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (width, height) = SIZE;
    // small changes must not fill the plot, and a constant is in the middle
    let span = (high - low).max(high.abs().max(low.abs()) * MIN_SPAN);
    let middle = f64::midpoint(high, low);
    let y = |v: f64| if span > 0.0 { height / 2.0 - (v - middle) / span * (height - 8.0) } else { height / 2.0 };
    let time = |at: Timestamp| at.duration_since(first.0).as_secs_f64();
    let whole = time(last.0).max(1.0);
    let mut line = String::new();
    for (at, v) in &points {
        // writing to a String cannot fail
        let _ = write!(line, "{:.1},{:.1} ", (time(*at) / whole).clamp(0.0, 1.0) * width, y(*v));
    }
    let line = line.trim_end();
    let title = format!("{} {}", trend.subject, words(&trend.name));
    let shown = |v: f64| escape(&shown(trend.unit, v));
    let suffix = if trend.says.is_empty() { String::new() } else { format!(", {}", trend.says) };
    let label = format!("{}: from {} to {}{}", escape(&title), shown(first.1), shown(last.1), escape(&suffix));
    let mut svg = format!(r#"<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{label}">"#);
    let _ = write!(svg, r#"<polygon class="area" points="0,{height} {line} {width},{height}"/>"#);
    if let Some(limit) = limit {
        let at = y(limit);
        let _ = write!(svg, r#"<line class="limit" x1="0" x2="{width}" y1="{at:.1}" y2="{at:.1}"/>"#);
    }
    let _ = write!(svg, r#"<polyline class="line" points="{line}"/></svg>"#);
    let end = |(at, v): (Timestamp, f64)| format!("<span><b>{}</b><br>{}</span>", shown(v), moment(last.0, at));
    let limit = limit.map(|l| format!("<span>limit {}<br>(dashed)</span>", shown(l))).unwrap_or_default();
    let caption =
        if trend.says.is_empty() { String::new() } else { format!(r#" <span class="says">{}</span>"#, escape(&trend.says)) };
    format!(
        "<figure><figcaption><span>{}</span>{caption}</figcaption>{svg}<p class=\"ends\">{}{limit}{}</p></figure>\n",
        escape(&title),
        end(*first),
        end(*last)
    )
}

/// A number in relation to its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Crit,
    Warn,
    Ok,
    /// No limits.
    None,
}

impl Level {
    pub(super) fn of(m: &Measure) -> Self {
        let over = |limit: Option<f64>| limit.is_some_and(|l| if m.falling { m.value <= l } else { m.value >= l });
        match () {
            () if over(m.crit) => Self::Crit,
            () if over(m.warn) => Self::Warn,
            () if m.crit.or(m.warn).is_some() => Self::Ok,
            () => Self::None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Crit => "crit",
            Self::Warn => "warn",
            Self::Ok => "ok",
            Self::None => "none",
        }
    }
}

/// A bar with its limits as marks.
pub(super) fn bar(m: &Measure) -> String {
    let level = Level::of(m);
    let known = [m.max, m.warn, m.crit].into_iter().flatten().filter(|v| v.is_finite());
    let maximum = known.fold(m.value, f64::max);
    // room to the right of a limit that is not the maximum
    let scale = if m.max.is_some_and(|max| max >= maximum) { maximum } else { maximum * 1.15 };
    let share = |v: f64| if scale > 0.0 && v.is_finite() { (v / scale).clamp(0.0, 1.0) * SIZE.0 } else { 0.0 };
    let title = format!("{} {}", m.subject, words(&m.name));
    let shown = |v: f64| shown(m.unit, v);
    let limit =
        |word: &str, limit: Option<f64>| limit.map(|l| format!("{word} {} {}", if m.falling { "below" } else { "at" }, shown(l)));
    let limits: Vec<String> = [limit("warn", m.warn), limit("crit", m.crit)].into_iter().flatten().collect();
    let of = m.max.filter(|_| m.unit != Unit::Percent).map(|max| format!(" of {}", shown(max))).unwrap_or_default();
    let state =
        if level == Level::None { String::new() } else { format!(r#" <span class="badge {0}">{0}</span>"#, level.word()) };
    let drawn = known_scale(m).then(|| {
        let marks = [m.warn, m.crit].into_iter().flatten().fold(String::new(), |mut out, l| {
            let at = share(l);
            let _ = write!(out, r#"<line class="mark" x1="{at:.1}" x2="{at:.1}" y1="0" y2="10"/>"#);
            out
        });
        format!(
            r#"<svg class="bar" viewBox="0 0 300 10" preserveAspectRatio="none" role="img" aria-label="{}"><rect class="track" width="300" height="10"/><rect class="fill {}" width="{:.1}" height="10"/>{marks}</svg>"#,
            escape(&format!("{title}: {}{of}", shown(m.value))),
            level.word(),
            share(m.value),
        )
    });
    format!(
        "<figure><figcaption><span>{}</span>{state}</figcaption>{}<p class=\"ends\"><span><b>{}</b>{}</span><span>{}</span></p></figure>\n",
        escape(&title),
        drawn.unwrap_or_default(),
        escape(&shown(m.value)),
        escape(&of),
        escape(&limits.join(", ")),
    )
}

/// Whether there is a scale for the number.
fn known_scale(m: &Measure) -> bool {
    m.max.is_some() || m.warn.is_some() || m.crit.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(value: f64, falling: bool) -> Measure {
        let (subject, name) = ("mount:<x>".to_owned(), "free_space".to_owned());
        Measure { subject, name, unit: Unit::Percent, value, warn: Some(20.0), crit: Some(10.0), falling, max: Some(100.0) }
    }

    #[test]
    fn bar_has_a_text_alternative() {
        let text = bar(&measure(15.0, true));
        for part in ["mount:&lt;x&gt; free space", ">warn<", "15 %", "warn below 20 %, crit below 10 %", r#"width="45.0""#] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!([5.0, 15.0, 25.0].map(|v| Level::of(&measure(v, true))), [Level::Crit, Level::Warn, Level::Ok]);
    }

    #[test]
    fn non_finite_numbers_are_not_drawn() {
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let text = bar(&Measure { max: None, warn: None, crit: Some(0.0), ..measure(value, false) });
            let svg = text.split("<svg").nth(1).and_then(|s| s.split("</svg>").next()).unwrap_or_default();
            assert!(!svg.contains("=\"NaN") && !svg.contains("=\"inf"), "{text}");
        }
        let flat = |points: &[f64]| Trend {
            subject: "mount:/".into(),
            name: "used".into(),
            unit: Unit::Percent,
            points: points.iter().map(|v| (Timestamp::UNIX_EPOCH, *v)).collect(),
            limit: None,
            reaches_limit_in_s: None,
            says: String::new(),
        };
        assert_eq!(sparkline(&flat(&[f64::NAN])), "");
        assert!(sparkline(&flat(&[3.0])).contains(r#"points="0.0,30.0""#));
        assert!(sparkline(&flat(&[3.0, 3.0])).contains(r#"points="0.0,30.0 0.0,30.0""#));
    }
}
