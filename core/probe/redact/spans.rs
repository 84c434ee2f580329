//! The parts of a text that hold secrets.

use std::ops::Range;

use super::REDACTED;

/// Byte ranges of one text, in no order; they may overlap.
#[derive(Debug, Default)]
pub(super) struct Spans(Vec<Range<usize>>);

impl Spans {
    pub(super) fn push(&mut self, span: Range<usize>) {
        if span.start < span.end {
            self.0.push(span);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the spans of a decoded text; `origin` maps a span of the decoded text to one of the original text.
    pub(super) fn extend_with(&mut self, decoded: &Self, origin: impl Fn(&Range<usize>) -> Range<usize>) {
        decoded.0.iter().for_each(|span| self.push(origin(span)));
    }

    /// In order, without overlaps, on character boundaries. Spans that are separated only by an earlier [`REDACTED`] become one.
    pub(super) fn merged(mut self, text: &str) -> Vec<Range<usize>> {
        let earlier: Vec<usize> = memchr::memmem::find_iter(text.as_bytes(), REDACTED).collect();
        // a replacement of an earlier run is completely inside or outside of a span
        let enclosing = |at: usize| {
            let n = earlier.partition_point(|start| *start < at);
            let before = n.checked_sub(1).map(|n| earlier[n]..earlier[n] + REDACTED.len());
            before.filter(|r| r.end > at)
        };
        for span in &mut self.0 {
            span.start = enclosing(span.start).map_or(span.start, |r| r.start);
            span.end = enclosing(span.end).map_or(span.end, |r| r.end).min(text.len());
            while !text.is_char_boundary(span.start) {
                span.start -= 1;
            }
            while !text.is_char_boundary(span.end) {
                span.end += 1;
            }
        }
        self.0.sort_by_key(|span| (span.start, span.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(self.0.len());
        for span in self.0 {
            match merged.last_mut() {
                Some(last) if span.start <= last.end || &text[last.end..span.start] == REDACTED => {
                    last.end = last.end.max(span.end);
                }
                _ => merged.push(span),
            }
        }
        for span in &mut merged {
            // a replacement of an earlier run is part of the adjacent secret
            if text[..span.start].ends_with(REDACTED) {
                span.start -= REDACTED.len();
            }
            if text[span.end..].starts_with(REDACTED) {
                span.end += REDACTED.len();
            }
        }
        merged
    }
}

/// `text` with [`REDACTED`] in place of each span.
pub(super) fn replaced(text: &str, spans: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        out.push_str(&text[at..span.start]);
        out.push_str(REDACTED);
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}
