//! "Did you mean" and globs.

/// The candidate most similar to `word`, if at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|c| (strsim::osa_distance(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= allowed && *distance < c.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// `; did you mean `x`?`, or nothing.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|c| format!("; did you mean `{c}`?")).unwrap_or_default()
}

/// Whether `text` matches `pattern`: `*` matches any text, `?` one character.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // backtracking position: the last `*` has to match one more character
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    p = star;
                    t = from + 1;
                    retry = Some((star, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn typo_is_recognised_and_another_word_is_not() {
        let keys = ["space_warn_percent", "space_crit_percent", "skip"];
        assert_eq!(nearest("spce_warn_percent", keys), Some("space_warn_percent"));
        assert_eq!(nearest("Space_Crit_Percent", keys), Some("space_crit_percent"));
        assert_eq!(nearest("owner", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(did_you_mean("skp", keys), "; did you mean `skip`?");
    }

    #[test]
    fn globs() {
        for (pattern, text) in [("web*", "web"), ("web*", "web-1"), ("*", ""), ("a*b*c", "a-b-b-c"), ("w?b", "wéb"), ("**", "x")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("web*", "my-web"), ("", "x"), ("a*b", "a-b-c"), ("w?b", "wb")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn text_matches_itself_with_any_part_starred(head in "[^*?]{0,8}", middle in ".{0,8}", tail in "[^*?]{0,8}") {
            let pattern = format!("{head}*{tail}");
            let text = format!("{head}{middle}{tail}");
            prop_assert!(glob(&pattern, &text));
        }
    }
}
