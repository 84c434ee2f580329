//! A fast filter in front of the parsers: most lines of most logs are no errors, and hundreds of logs are read in one run.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::reason;

/// Words of which one is in every line with a severity of at least warning, see [`super::level`].
const WORDS: &[&str] = &[
    "err",
    "warn",
    "fatal",
    "panic",
    "crit",
    "emerg",
    "alert",
    "severe",
    "exception",
    "traceback",
    "caused by",
    "uncaught",
    "unhandled",
    "killed",
    "abort",
    "segmentation fault",
    "bus error",
    "illegal instruction",
    "signal",
    "rejection",
    "urgent",
    "detail:",
    // abbreviations: Serilog, log15, logrus, .NET, Telegraf, etcd, MongoDB before 4.4
    "ftl",
    "wrn",
    "eror",
    "fata[",
    "pani[",
    "fail:",
    " e! ",
    " w! ",
    "c | ",
    "e | ",
    "w | ",
    " f  ",
    " e  ",
    " w  ",
    // exceptions of Ruby
    "bad: ",
    "notfound: ",
    "notestablished: ",
    "failed: ",
    "invalid: ",
    "missing: ",
    // numbers of pino and bunyan, letters of MongoDB
    "\"level\":3,",
    "\"level\": 4",
    "\"level\": 5",
    "\"level\": 6",
    "\"level\":4",
    "\"level\":5",
    "\"level\":6",
    "\"s\":\"e\"",
    "\"s\":\"f\"",
    "\"s\":\"w\"",
    // brackets and columns with one letter
    "[e]",
    "[f]",
    "[w]",
];

#[expect(clippy::expect_used, reason = "constant words, compiled by a test")]
static TRIGGERS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = WORDS.iter().copied().chain(reason::texts());
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).expect("constant words")
});

/// Whether a text can contain an error line. `false` is certain.
#[must_use]
pub fn may_contain_errors(text: &str) -> bool {
    TRIGGERS.is_match(text) || text.lines().any(is_klog)
}

/// `E1130 12:00:00.000000 1 file.go:12] message`.
fn is_klog(line: &str) -> bool {
    let bytes = line.as_bytes();
    matches!(bytes.first(), Some(b'E' | b'F' | b'W')) && bytes.len() > 5 && bytes[1..5].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_output_is_skipped() {
        assert!(!may_contain_errors("listening on :8080\nGET /health 200\n12:30:01 INFO started\n"));
        for line in ["E1130 12:00:00 main.go:1] x", "{\"level\":50}", "sh: 1: dig: not found", "ERROR x", "[W] x"] {
            assert!(may_contain_errors(line), "{line}");
        }
    }
}
