//! Parsing of log lines by their `log_format`: variables between fixed texts
//! (<https://nginx.org/en/docs/http/ngx_http_log_module.html>). The quotes and braces of JSON formats are fixed texts as well.

use jiff::Timestamp;
use memchr::memmem::Finder;

/// A parsed format.
#[derive(Debug, Clone)]
pub struct LogFormat {
    /// Fixed text before the first variable.
    begin: Vec<u8>,
    /// Each variable, and the fixed text after it.
    fields: Vec<(String, Finder<'static>)>,
    /// Variable that contains the time.
    time: Option<String>,
    /// Fixed text before `$status`.
    anchor: Vec<u8>,
}

/// Variables that contain the time, the most precise last.
const TIME_VARIABLES: &[&str] = &["time_local", "time_iso8601", "msec"];

impl LogFormat {
    /// Parses the text of a `log_format`, or returns `None` if it contains no status.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut fields = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            let after = &rest[at + 1..];
            let (name, tail) = if let Some(braced) = after.strip_prefix('{') {
                braced.split_once('}')?
            } else {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            };
            if name.is_empty() {
                literal.push(b'$');
            } else {
                fields.push((std::mem::take(&mut literal), name.to_owned()));
            }
            rest = tail;
        }
        literal.extend_from_slice(rest.as_bytes());
        let status = fields.iter().position(|(_, name)| name == "status")?;
        let time = TIME_VARIABLES.iter().rev().find(|t| fields.iter().any(|(_, name)| name == *t)).map(|t| (*t).to_owned());
        let anchor = fields[status].0.clone();
        let begin = fields[0].0.clone();
        // the fixed text after each variable is the text before the next one
        let after: Vec<Vec<u8>> = fields.iter().skip(1).map(|(before, _)| before.clone()).chain([literal]).collect();
        let fields = fields.into_iter().zip(after).map(|((_, name), after)| (name, Finder::new(&after).into_owned())).collect();
        Some(Self { begin, fields, time, anchor })
    }

    /// A text contained in every line with this status, or with a status that has this prefix.
    pub(super) fn needle(&self, status: &str) -> Finder<'static> {
        let mut needle = self.anchor.clone();
        needle.extend_from_slice(status.as_bytes());
        Finder::new(&needle).into_owned()
    }

    /// Whether lines contain a time.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// Position of a variable among all of them.
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|(field, _)| field == name)
    }

    /// Values of all variables up to the one at `last`, or `None` if the line does not match the format.
    pub(super) fn split<'l>(&self, line: &'l [u8], last: usize, into: &mut Vec<&'l [u8]>) -> Option<()> {
        into.clear();
        let mut rest = line.strip_prefix(self.begin.as_slice())?;
        for (i, (_, after)) in self.fields.iter().enumerate().take(last + 1) {
            let end = after.needle();
            let length = if i + 1 == self.fields.len() {
                // a value that may contain its terminator: the last occurrence is the end
                rest.len().checked_sub(end.len()).filter(|n| rest[*n..] == *end)?
            } else if end.is_empty() {
                return None;
            } else {
                after.find(rest)?
            };
            into.push(&rest[..length]);
            rest = rest.get(length + end.len()..)?;
        }
        Some(())
    }

    /// Value of a variable in a line.
    #[must_use]
    pub fn field<'l>(&self, line: &'l [u8], name: &str) -> Option<&'l [u8]> {
        let index = self.index(name)?;
        let mut values = Vec::with_capacity(index + 1);
        self.split(line, index, &mut values)?;
        values.pop()
    }

    /// Status of the request of a line.
    #[must_use]
    pub fn status(&self, line: &[u8]) -> Option<u16> {
        status_of(self.field(line, "status")?)
    }

    /// End time of the request of a line.
    #[must_use]
    pub fn time(&self, line: &[u8]) -> Option<Timestamp> {
        let name = self.time.as_deref()?;
        let text = std::str::from_utf8(self.field(line, name)?).ok()?;
        match name {
            "msec" => {
                let (seconds, millis) = text.split_once('.').unwrap_or((text, "0"));
                Timestamp::new(seconds.parse().ok()?, millis.parse::<i32>().ok()?.checked_mul(1_000_000)?).ok()
            }
            "time_iso8601" => text.parse().ok(),
            _ => local_time(text),
        }
    }
}

/// Parses `502`.
pub(super) fn status_of(digits: &[u8]) -> Option<u16> {
    (digits.len() == 3).then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Parses `21/Nov/2026:13:37:12 +0100`.
pub(super) fn local_time(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i8>().ok();
    let month = MONTHS.iter().position(|m| Some(*m) == text.get(3..6))?;
    let year: i16 = text.get(7..11)?.parse().ok()?;
    let (hour, minute, second) = (number(12..14)?, number(15..17)?, number(18..20)?);
    let local = jiff::civil::DateTime::new(year, i8::try_from(month + 1).ok()?, number(0..2)?, hour, minute, second, 0).ok()?;
    let offset = text.get(21..26)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let seconds = sign * (offset.get(1..3)?.parse::<i32>().ok()? * 3600 + offset.get(3..5)?.parse::<i32>().ok()? * 60);
    jiff::tz::Offset::from_seconds(seconds).ok()?.to_timestamp(local).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::COMBINED;
    use super::*;

    const LINE: &[u8] = br#"10.0.0.1 - - [21/Nov/2026:13:37:12 +0100] "GET /a?b HTTP/1.1" 502 157 "-" "curl \x22 503 ""#;

    #[test]
    fn variables_of_a_combined_line_are_parsed() {
        let f = LogFormat::new(COMBINED).unwrap();
        assert_eq!(f.status(LINE), Some(502));
        assert_eq!(f.field(LINE, "request"), Some(&b"GET /a?b HTTP/1.1"[..]));
        assert_eq!(f.field(LINE, "http_user_agent"), Some(&br"curl \x22 503 "[..]));
        assert_eq!(f.time(LINE).unwrap().to_string(), "2026-11-21T12:37:12Z");
        assert_eq!((f.field(LINE, "nope"), f.status(b"garbage")), (None, None));
    }

    #[test]
    fn json_formats_and_other_times_are_parsed() {
        let f = LogFormat::new(r#"{"t":"$time_iso8601","m":${msec},"status":"$status","up":"$upstream_addr"}"#).unwrap();
        let line = br#"{"t":"2026-11-21T13:37:12+01:00","m":1795264632.500,"status":"504","up":"10.0.0.3:80, 10.0.0.4:80"}"#;
        assert_eq!((f.status(line), f.time(line).unwrap().as_millisecond()), (Some(504), 1_795_264_632_500));
        assert_eq!(f.field(line, "upstream_addr"), Some(&b"10.0.0.3:80, 10.0.0.4:80"[..]));
        assert!(LogFormat::new("$remote_addr $request").is_none());
        assert!(!LogFormat::new("$status").unwrap().has_time());
    }
}
