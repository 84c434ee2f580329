//! The line that a log repeats most.

use std::collections::HashMap;

use opsctl_core::model::log::template;

/// The most frequent line, ignoring numbers, ids and timestamps, if it makes up a fifth of the log.
pub(crate) fn most_repeated(lines: &[String]) -> Option<(String, usize)> {
    let mut counts: HashMap<String, (usize, &String)> = HashMap::new();
    for line in lines {
        counts.entry(template(line)).or_insert((0, line)).0 += 1;
    }
    let (count, line) = counts.into_values().max_by_key(|(n, _)| *n)?;
    (count * 5 >= lines.len() && count > 1).then(|| (line.chars().take(200).collect(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_line_is_found_despite_ids_and_timestamps() {
        let mut lines: Vec<String> = (0..50).map(|i| format!("10:00:{i:02} task process_media[{i}] received")).collect();
        lines.extend((0..50).map(|i| format!("other {}", "x".repeat(i))));
        assert_eq!(most_repeated(&lines).map(|(_, n)| n), Some(50));
        assert_eq!(most_repeated(&[]), None);
    }
}
