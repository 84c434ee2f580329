//! Parser of the nginx configuration syntax: directives, blocks, quotes, comments
//! (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>). No maintained library keeps unknown directives and their
//! positions.

use std::sync::Arc;

/// A directive with its block. An `include` is replaced by the included directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// `proxy_pass`.
    pub(super) name: String,
    /// Arguments without quotes.
    pub(super) args: Vec<String>,
    /// Block; empty for a simple directive.
    pub(super) block: Vec<Directive>,
    /// File of the directive, as nginx sees it.
    pub(super) file: Arc<str>,
    /// Line number, from 1.
    pub(super) line: usize,
}

/// Limit of nested blocks.
const MAX_DEPTH: usize = 64;

/// Parses the text of one file. The error contains the position.
pub(super) fn parse(text: &str, file: &Arc<str>) -> Result<Vec<Directive>, String> {
    let mut words = Words { rest: text, line: 1 };
    let directives = block(&mut words, file, 0)?;
    Ok(directives)
}

fn block(words: &mut Words<'_>, file: &Arc<str>, depth: usize) -> Result<Vec<Directive>, String> {
    let at = |line: usize, why: &str| format!("{file}:{line}: {why}");
    let mut directives = Vec::new();
    loop {
        let (name, line) = match words.next().map_err(|why| at(words.line, why))? {
            Some(Word::Text(name)) => (name, words.line),
            Some(Word::Close) if depth > 0 => return Ok(directives),
            None if depth == 0 => return Ok(directives),
            Some(Word::Close) => return Err(at(words.line, "`}` without `{`")),
            Some(_) => return Err(at(words.line, "a directive without a name")),
            None => return Err(at(words.line, "the file ends inside a block")),
        };
        let mut directive = Directive { name, args: Vec::new(), block: Vec::new(), file: file.clone(), line };
        loop {
            match words.next().map_err(|why| at(words.line, why))? {
                Some(Word::Text(arg)) => directive.args.push(arg),
                Some(Word::End) => break,
                // Lua has its own braces and quotes
                Some(Word::Open) if directive.name.ends_with("_by_lua_block") => {
                    words.skip_braces().map_err(|why| at(line, why))?;
                    break;
                }
                Some(Word::Open) if depth < MAX_DEPTH => {
                    directive.block = block(words, file, depth + 1)?;
                    break;
                }
                Some(Word::Open) => return Err(at(words.line, "blocks are nested too deep")),
                Some(Word::Close) | None => return Err(at(line, "a directive without `;`")),
            }
        }
        directives.push(directive);
    }
}

enum Word {
    Text(String),
    Open,
    Close,
    End,
}

struct Words<'a> {
    rest: &'a str,
    line: usize,
}

impl Words<'_> {
    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn next(&mut self) -> Result<Option<Word>, &'static str> {
        loop {
            match self.rest.chars().next() {
                None => return Ok(None),
                Some(c) if c.is_whitespace() => {
                    self.take();
                }
                Some('#') => while self.take().is_some_and(|c| c != '\n') {},
                Some(_) => break,
            }
        }
        let single = match self.rest.chars().next() {
            Some('{') => Some(Word::Open),
            Some('}') => Some(Word::Close),
            Some(';') => Some(Word::End),
            _ => None,
        };
        if single.is_some() {
            self.take();
            return Ok(single);
        }
        self.text().map(|text| Some(Word::Text(text)))
    }

    /// A word, quoted or not; `${name}` does not open a block.
    fn text(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        if let Some(quote @ ('"' | '\'')) = self.rest.chars().next() {
            self.take();
            loop {
                match self.take().ok_or("a quote is not closed")? {
                    c if c == quote => return Ok(text),
                    '\\' => self.escaped(&mut text),
                    c => text.push(c),
                }
            }
        }
        let mut in_variable = false;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '}' if in_variable => in_variable = false,
                '{' if text.ends_with('$') => in_variable = true,
                ';' | '{' | '}' => break,
                c if c.is_whitespace() => break,
                '\\' => {
                    self.take();
                    self.escaped(&mut text);
                    continue;
                }
                _ => {}
            }
            text.push(c);
            self.take();
        }
        Ok(text)
    }

    fn escaped(&mut self, text: &mut String) {
        match self.take() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(c @ ('"' | '\'' | '\\' | ' ' | ';')) => text.push(c),
            // regular expressions keep their backslashes
            Some(c) => text.extend(['\\', c]),
            None => {}
        }
    }

    fn skip_braces(&mut self) -> Result<(), &'static str> {
        let mut open = 1;
        while open > 0 {
            match self.take().ok_or("the file ends inside a block")? {
                '{' => open += 1,
                '}' => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        fn show(d: &[Directive]) -> String {
            d.iter().map(|d| format!("{}({}){{{}}}", d.name, d.args.join("|"), show(&d.block))).collect::<Vec<_>>().concat()
        }
        parse(text, &"x".into()).map(|d| show(&d))
    }

    #[test]
    fn directives_blocks_quotes_and_comments_are_parsed() {
        let text = "user www; # c ; {\nhttp {\n log_format j '{\"s\":\"$status\"}'\n \"\\\"x\\\"\";\n server { listen 80; location ~ \\.php$ { set $a ${b}c; } }\n}";
        assert_eq!(
            shown(text).unwrap(),
            "user(www){}http(){log_format(j|{\"s\":\"$status\"}|\"x\"){}server(){listen(80){}location(~|\\.php$){set($a|${b}c){}}}}"
        );
        let lua = "location / { content_by_lua_block { if a then b = {1} end } } x y;";
        assert_eq!(shown(lua).unwrap(), "location(/){content_by_lua_block(){}}x(y){}");
    }

    #[test]
    fn syntax_error_contains_file_and_line() {
        for (text, why) in [
            ("a b", "x:1: a directive without `;`"),
            ("http {\n a;\n", "x:3: the file ends inside a block"),
            ("a;\n}", "x:2: `}` without `{`"),
            ("a 'b", "x:1: a quote is not closed"),
            (";", "x:1: a directive without a name"),
        ] {
            assert_eq!(shown(text), Err(why.to_owned()), "{text}");
        }
        assert!(shown(&"a {".repeat(100_000)).is_err());
    }
}
