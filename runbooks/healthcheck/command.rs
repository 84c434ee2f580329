//! Parser of health tests: the programs they run and the URL or port they check.

use std::sync::LazyLock;

use opsctl_core::model::address::without_brackets;
use regex::Regex;

/// A parsed health test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// Programs required to run the test: the program of the exec form, the shell of the shell form.
    pub(super) needs: Vec<String>,
    /// Programs of which at least one is required: the first of the script and of its `||` alternatives.
    pub(super) one_of: Vec<String>,
    /// The request that it sends.
    pub(super) request: Option<TestRequest>,
    /// Scheme and host of its URL, also if the port or the path is in a variable.
    pub(super) url: Option<(&'static str, String)>,
    /// The whole text, for patterns.
    pub(super) text: String,
}

/// The HTTP request or TCP connection of a health test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestRequest {
    /// `http`, `https`, or `tcp`.
    pub(super) scheme: &'static str,
    /// Host as written.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
    /// Path with a leading slash, without query: a query may contain a token.
    pub(super) path: String,
}

/// Shell builtins and keywords.
const BUILTINS: &[&str] = &[
    "exit", "true", "false", "test", "[", "[[", "exec", "set", "cd", "echo", "printf", "if", "then", "else", "fi", "!", "(", "{",
    ":", "read", "export", "command", "eval", "return", "while", "for", "do", "done", "kill", "wait", "type", "case", "local",
    "trap", "source", ".",
];

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static URL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?P<scheme>https?)://(?:[^\s/@'"]*@)?(?P<host>\[[0-9A-Fa-f:]+\]|[^\s/:'"|;)?]+)(?::(?P<port>\d+))?(?P<path>/[^\s'"|;)?#]*)?"#)
        .expect("constant pattern")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static DEV_TCP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"/dev/tcp/(?P<host>[^\s/'\x22]+)/(?P<port>\d+)(?:.*?\b(?:GET|HEAD) (?P<path>/\S*))?").expect("constant pattern")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static NETCAT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bnc(?:\s+-\w+(?:\s+\d+)?)*\s+(?P<host>[\w.:-]+)\s+(?P<port>\d+)").expect("constant pattern"));

impl Command {
    /// Reads `["CMD", …]` and `["CMD-SHELL", "…"]`.
    pub(super) fn parse(test: &[String]) -> Self {
        let words = test.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join(" ");
        let mut command = Self { request: parse_request(&words), url: parse_url(&words), text: words, ..Self::default() };
        match test {
            [kind, script, ..] if kind == "CMD-SHELL" => {
                command.needs.push("/bin/sh".to_owned());
                command.one_of = alternatives(script);
            }
            [kind, program, rest @ ..] if kind == "CMD" => {
                command.needs.push(program.clone());
                // `["CMD", "sh", "-c", "curl …"]` hides the program one level down
                let shell = matches!(program.rsplit('/').next(), Some("sh" | "bash" | "ash" | "dash"));
                if let (true, [flag, script, ..]) = (shell, rest)
                    && flag.ends_with('c')
                {
                    command.one_of = alternatives(script);
                }
            }
            _ => {}
        }
        command
    }

    /// All programs of the test, for a lookup in the image.
    pub(super) fn programs(&self) -> Vec<String> {
        self.needs.iter().chain(&self.one_of).cloned().collect()
    }

    /// A missing program without which the test cannot pass.
    pub(super) fn lacking<'a>(&'a self, missing: &[String]) -> Option<&'a str> {
        let is_missing = |p: &&String| missing.contains(p);
        if let Some(needed) = self.needs.iter().find(is_missing) {
            return Some(needed);
        }
        let first = self.one_of.first()?;
        self.one_of.iter().all(|p| is_missing(&p)).then_some(first)
    }
}

/// The first program of a script and of each `||` alternative, without builtins.
fn alternatives(script: &str) -> Vec<String> {
    let mut programs = Vec::new();
    for alternative in split(script, "||") {
        // only the first of `a && b | c` is required; the others are classified when they fail
        let first = split(&alternative, "&&")
            .into_iter()
            .flat_map(|s| split(&s, ";"))
            .flat_map(|s| split(&s, "|"))
            .find_map(|s| program(&s));
        programs.extend(first);
    }
    programs
}

/// The program of a simple command; `None` for assignments, builtins and expansions.
fn program(command: &str) -> Option<String> {
    let mut words = command.split_whitespace().skip_while(|w| {
        let assignment =
            w.split_once('=').is_some_and(|(n, _)| !n.is_empty() && n.chars().all(|c| c.is_alphanumeric() || c == '_'));
        assignment || matches!(*w, "exec" | "!" | "command" | "(" | "{" | "if" | "then")
    });
    let word = words.next()?.trim_matches(['"', '\'', '(']);
    let plain = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+'));
    (!word.is_empty() && plain && !word.starts_with('-') && !BUILTINS.contains(&word)).then(|| word.to_owned())
}

/// Splits at an operator outside quotes. `|` does not split `||`.
fn split(text: &str, operator: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let both = rest.starts_with("||") && operator == "|";
        if quote.is_none() && rest.starts_with(operator) && !both {
            parts.push(String::new());
            rest = &rest[operator.len()..];
            continue;
        }
        match quote {
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        let step = if both { 2 } else { c.len_utf8() };
        if let Some(last) = parts.last_mut() {
            last.push_str(&rest[..step]);
        }
        rest = &rest[step..];
    }
    parts
}

/// Scheme and host of the URL, unless the host is in a variable.
fn parse_url(text: &str) -> Option<(&'static str, String)> {
    let c = URL.captures(text)?;
    let scheme = if &c["scheme"] == "https" { "https" } else { "http" };
    let host = without_brackets(&c["host"]);
    (!host.contains('$')).then(|| (scheme, host.to_owned()))
}

fn parse_request(text: &str) -> Option<TestRequest> {
    if let Some(c) = URL.captures(text) {
        let (scheme, host) = parse_url(text)?;
        let path = c.name("path").map_or("/", |p| p.as_str());
        // `http://localhost:$PORT/$PATH`: a variable of the shell or of the container, and not the default port
        if text[c.get(0)?.end()..].starts_with(':') || path.contains('$') {
            return None;
        }
        let default = if scheme == "https" { 443 } else { 80 };
        let port = c.name("port").map_or(Some(default), |p| p.as_str().parse().ok())?;
        return Some(TestRequest { scheme, host, port, path: path.to_owned() });
    }
    if let Some(c) = DEV_TCP.captures(text) {
        let path = c.name("path").map(|p| p.as_str().split('?').next().unwrap_or("/").to_owned());
        return Some(TestRequest {
            scheme: if path.is_some() { "http" } else { "tcp" },
            host: c["host"].to_owned(),
            port: c["port"].parse().ok()?,
            path: path.unwrap_or_default(),
        });
    }
    let c = NETCAT.captures(text)?;
    Some(TestRequest { scheme: "tcp", host: c["host"].to_owned(), port: c["port"].parse().ok()?, path: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(test: &[&str]) -> Command {
        Command::parse(&test.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn programs_are_parsed_from_exec_and_shell_form() {
        for (test, needs, one_of) in [
            (&["CMD", "wget", "-q", "http://localhost:1/"][..], "wget", ""),
            (&["CMD-SHELL", "curl -f http://localhost/ || exit 1"], "/bin/sh", "curl"),
            (&["CMD-SHELL", "X=1 exec curl x | grep '200 || y'"], "/bin/sh", "curl"),
            (&["CMD-SHELL", "curl x || wget y"], "/bin/sh", "curl wget"),
            (&["CMD", "bash", "-c", "exec 3<>/dev/tcp/localhost/1"], "bash", ""),
            (&["CMD-SHELL", "exit 0"], "/bin/sh", ""),
            (&["CMD-SHELL", "$(cat /x)"], "/bin/sh", ""),
            (&["CMD", "/app/check"], "/app/check", ""),
            (&["NONE"], "", ""),
        ] {
            let c = parse(test);
            assert_eq!((c.needs.join(" ").as_str(), c.one_of.join(" ").as_str()), (needs, one_of), "{test:?}");
        }
    }

    #[test]
    fn url_and_port_are_parsed() {
        let parsed =
            |text: &str| parse(&["CMD-SHELL", text]).request.map(|a| format!("{} {} {} {}", a.scheme, a.host, a.port, a.path));
        assert_eq!(parsed("wget -qO- http://localhost:12345/-/ready").as_deref(), Some("http localhost 12345 /-/ready"));
        assert_eq!(parsed("curl -f 'http://u:p@127.0.0.1/a?token=x'").as_deref(), Some("http 127.0.0.1 80 /a"));
        assert_eq!(parsed("curl https://[::1]:8443/x").as_deref(), Some("https ::1 8443 /x"));
        let bash = "exec 3<>/dev/tcp/localhost/12345 && echo -e 'GET /-/ready HTTP/1.0\\r\\n' >&3";
        assert_eq!(parsed(bash).as_deref(), Some("http localhost 12345 /-/ready"));
        assert_eq!(parsed("nc -z -w 3 localhost 5432").as_deref(), Some("tcp localhost 5432 "));
        assert_eq!(parsed("pg_isready"), None);
    }

    #[test]
    fn port_and_path_in_a_variable_are_unknown() {
        for text in
            ["curl http://localhost:$PORT/x", "wget http://127.0.0.1:${PORT:-80}/", "curl http://$HOST/", "curl http://a:80/$X"]
        {
            assert_eq!(parse(&["CMD-SHELL", text]).request, None, "{text}");
        }
        let url = |text: &str| parse(&["CMD-SHELL", text]).url;
        assert_eq!(url("wget http://localhost:$PORT/x"), Some(("http", "localhost".to_owned())));
        assert_eq!(url("curl -k https://[::1]:8443/"), Some(("https", "::1".to_owned())));
        assert_eq!((url("curl http://$HOST:80/"), url("pg_isready")), (None, None));
    }

    #[test]
    fn one_present_alternative_is_sufficient() {
        let c = parse(&["CMD-SHELL", "curl x || wget y"]);
        assert_eq!(c.lacking(&["curl".into()]), None);
        assert_eq!(c.lacking(&["curl".into(), "wget".into()]), Some("curl"));
        assert_eq!(c.lacking(&["/bin/sh".into()]), Some("/bin/sh"));
    }
}
