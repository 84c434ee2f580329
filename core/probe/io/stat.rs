//! Fields of `/proc/<pid>/stat`.

/// Fields 4 and 22 of `/proc/<pid>/stat`.
pub(in crate::probe) fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_start_are_fields_4_and_22() {
        let stat = "812 (redis (x) server) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 777 1 2";
        assert_eq!(parent_and_start(stat), Some((1, 777)));
        assert_eq!(parent_and_start("812 (x"), None);
    }
}
