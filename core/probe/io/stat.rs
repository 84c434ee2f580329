//! Fields of `/proc/<pid>/stat`.

/// Fields 4 and 22 of `/proc/<pid>/stat`.
pub(in crate::probe) fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

/// Resource usage of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::probe) struct StatUsage {
    /// Name, at most 15 characters.
    pub(in crate::probe) comm: String,
    /// Processor time in user and kernel mode, in clock ticks.
    pub(in crate::probe) ticks: u64,
    /// Start time in clock ticks since boot.
    pub(in crate::probe) start_ticks: u64,
    /// -20 (most important) to 19; 0 if it is not printed.
    pub(in crate::probe) nice: i32,
    /// Resident memory in pages; 0 if it is not printed.
    pub(in crate::probe) pages: u64,
}

/// Fields 2, 14, 15, 19, 22 and 24 of `/proc/<pid>/stat`. The fields that follow differ between kernels.
pub(in crate::probe) fn usage(stat: &str) -> Option<StatUsage> {
    let (head, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(22).collect();
    // the state, field 3, is the first one after the name
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    let time = |number: usize| field(number).parse::<u64>().ok();
    Some(StatUsage {
        comm: head.split_once('(')?.1.to_owned(),
        ticks: time(14)?.saturating_add(time(15)?),
        start_ticks: time(22)?,
        nice: field(19).parse().unwrap_or(0),
        pages: time(24).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn parent_and_start_are_fields_4_and_22() {
        let stat = "812 (redis (x) server) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 777 1 2";
        assert_eq!(parent_and_start(stat), Some((1, 777)));
        assert_eq!(parent_and_start("812 (x"), None);
    }

    #[test]
    fn usage_needs_only_the_times() {
        let found = usage("812 (redis (x) server) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 x 5 0 777 1 -2");
        let comm = "redis (x) server".to_owned();
        assert_eq!(found, Some(StatUsage { comm, ticks: 11, start_ticks: 777, nice: 0, pages: 0 }));
        assert_eq!(usage("812 (redis) S 1 812 812 0 -1 4194560 1 2 3 4 five 6 7 8 20 0 5 0 777 1 2"), None);
    }

    #[test]
    fn corpus_of_processes() {
        corpus::check("pid-stat", 4, |text| {
            let shown =
                |u: StatUsage| format!("{} ticks={} start={} nice={} pages={}", u.comm, u.ticks, u.start_ticks, u.nice, u.pages);
            vec![("usage", usage(text).map(shown).unwrap_or_default())]
        });
    }
}
