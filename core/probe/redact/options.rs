//! Options of programs with a secret value and an ordinary name: `mysql -psecret`, `redis-cli -a secret`, `curl -u me:secret`.

use std::ops::Range;

use super::kinds::{Form, Search};
use super::values::{self, is_quote, until};

/// Limit of the words of a command.
const MAX_WORDS: usize = 64;

/// Limit of a command, in bytes.
const MAX_COMMAND_BYTES: usize = 4096;

/// A program, or several with the same options.
pub(super) struct Program {
    /// Its names.
    pub(super) names: &'static [&'static str],
    /// Options with a secret as the next word.
    next: &'static [&'static str],
    /// Options with a secret in the same word.
    joined: &'static [&'static str],
    /// Options with `user:password` as the next word, and the separator.
    logins: &'static [(&'static str, u8)],
    /// Words followed by a secret, and the number of words in between.
    words: &'static [(&'static str, usize)],
    /// A word that the command has to contain.
    only_with: Option<&'static str>,
}

const NONE: Program = Program { names: &[], next: &[], joined: &[], logins: &[], words: &[], only_with: None };

/// The programs. Options with `password` or `token` in their name need no entry here.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        names: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlcheck",
            "mysqlshow",
            "mysqlslap",
            "mysqlpump",
            "mysqlsh",
            "mysqlbinlog",
            "mysqlbackup",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mariadb-check",
            "mariadb-backup",
            "mariabackup",
            "mycli",
            "mydumper",
            "xtrabackup",
        ],
        joined: &["-p"],
        words: &[("password", 0)],
        ..NONE
    },
    Program { names: &["redis-cli", "valkey-cli", "keydb-cli", "redis-benchmark"], next: &["-a", "--pass"], ..NONE },
    Program {
        names: &["curl"],
        next: &["-b", "--cookie", "--oauth2-bearer", "--pass", "--proxy-pass"],
        logins: &[("-u", b':'), ("--user", b':'), ("-U", b':'), ("--proxy-user", b':'), ("-E", b':'), ("--cert", b':')],
        ..NONE
    },
    Program { names: &["etcdctl", "influx", "ab", "nats"], logins: &[("--user", b':'), ("-A", b':')], ..NONE },
    Program { names: &["sshpass"], next: &["-p"], joined: &["-p"], ..NONE },
    Program {
        names: &[
            "docker", "podman", "nerdctl", "helm", "oras", "skopeo", "buildah", "crane", "regctl", "az", "oc", "twine", "ecs-cli",
        ],
        next: &["-p"],
        joined: &["-p"],
        only_with: Some("login"),
        ..NONE
    },
    Program {
        names: &[
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
            "mongostat",
            "mongotop",
            "cqlsh",
            "cypher-shell",
            "beeline",
            "hive",
            "ksql",
            "rabbitmqadmin",
            "ncftpput",
            "ncftpget",
            "rdesktop",
        ],
        next: &["-p"],
        ..NONE
    },
    Program {
        names: &["sqlcmd", "bcp", "osql", "isql", "freebcp", "tsql", "sqsh", "mssql-cli"],
        next: &["-P"],
        joined: &["-P"],
        ..NONE
    },
    Program {
        names: &[
            "ldapsearch",
            "ldapmodify",
            "ldapadd",
            "ldapdelete",
            "ldapwhoami",
            "ldappasswd",
            "ldapcompare",
            "ldapmodrdn",
            "ldapexop",
        ],
        next: &["-w"],
        ..NONE
    },
    Program {
        names: &["smbclient", "rpcclient", "winexe", "wmic", "smbget", "smbmap"],
        logins: &[("-U", b'%'), ("--user", b'%')],
        ..NONE
    },
    Program { names: &["rabbitmqctl"], words: &[("add_user", 1), ("change_password", 1), ("authenticate_user", 1)], ..NONE },
    Program { names: &["openssl"], next: &["-k", "-K", "-pass"], ..NONE },
    Program { names: &["7z", "7za", "7zr", "7zz", "rar", "unrar"], joined: &["-p", "-hp"], ..NONE },
    Program { names: &["zip", "unzip"], next: &["-P"], joined: &["-P"], ..NONE },
    Program { names: &["mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "ipmitool"], next: &["-P"], ..NONE },
    Program {
        names: &[
            "snmpwalk",
            "snmpget",
            "snmpset",
            "snmpbulkwalk",
            "snmpgetnext",
            "snmpstatus",
            "snmptable",
            "snmpdf",
            "snmptrap",
        ],
        next: &["-c", "-A", "-X"],
        ..NONE
    },
    Program { names: &["xfreerdp", "wfreerdp"], joined: &["/p:"], ..NONE },
    Program { names: &["lftp"], logins: &[("-u", b',')], ..NONE },
    Program { names: &["ssh-keygen"], next: &["-N", "-P"], ..NONE },
    Program { names: &["swaks"], next: &["-ap"], ..NONE },
    Program { names: &["sendemail", "sendEmail"], next: &["-xp"], ..NONE },
    Program { names: &["useradd", "usermod"], next: &["-p"], ..NONE },
    Program { names: &["nmcli"], words: &[("password", 0), ("wifi-sec.psk", 0), ("802-11-wireless-security.psk", 0)], ..NONE },
    Program { names: &["wpa_passphrase"], words: &[("wpa_passphrase", 1)], ..NONE },
    Program { names: &["vault", "bao"], words: &[("login", 0), ("unwrap", 0), ("unseal", 0)], ..NONE },
    Program { names: &["cargo"], words: &[("login", 0)], ..NONE },
    Program {
        names: &["mc", "mcli"],
        words: &[("set", 3), ("set", 2), ("add", 3), ("add", 2)],
        only_with: Some("alias"),
        ..NONE
    },
    Program { names: &["sqlplus", "impdp", "expdp", "sqlldr", "rman"], words: &[("/", 0)], ..NONE },
    Program { names: &["htpasswd"], words: &[("-b", 0)], ..NONE },
    Program { names: &["--from-literal"], words: &[("=", 0)], ..NONE },
    Program { names: &["chpasswd", "sudo"], words: &[("|", 0)], ..NONE },
];

/// The secrets in the command of a program with its name at `start..end`.
pub(super) fn program(search: &mut Search<'_>, start: usize, end: usize, program: &Program) {
    let ends = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_whitespace() || is_quote(b) || b == b',');
    let begins = search.before(start).is_none_or(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')));
    let name = program.names.iter().any(|n| n.as_bytes() == &search.text[start..end]);
    match program.names {
        ["--from-literal"] => return from_literal(search, end),
        _ if !begins || !ends(search.at(end)) || !name => return,
        ["chpasswd", "sudo"] => return piped(search, start, end),
        _ => {}
    }
    let words = command(search, end);
    let text = search.text;
    let word = |i: usize| words.get(i).map_or(&b""[..], |w: &Range<usize>| &text[w.clone()]);
    if program.only_with.is_some_and(|with| !words.iter().any(|w| &text[w.clone()] == with.as_bytes())) {
        return;
    }
    match program.names {
        ["sqlplus", ..] => return oracle(search, &words),
        ["htpasswd"] => return htpasswd(search, &words),
        ["wpa_passphrase"] => return words.get(1).into_iter().for_each(|w| secret(search, w.clone())),
        _ => {}
    }
    let mut secrets: Vec<Range<usize>> = Vec::new();
    for (i, at) in words.iter().enumerate() {
        let this = word(i);
        let next = words.get(i + 1).filter(|_| !word(i + 1).starts_with(b"-"));
        if program.next.iter().any(|o| o.as_bytes() == this) {
            // a cookie file contains no cookie in the command
            let cookies = matches!(this, b"-b" | b"--cookie");
            secrets.extend(next.filter(|w| !cookies || text[(*w).clone()].contains(&b'=')).cloned());
        }
        for option in program.joined {
            if this.len() > option.len() && this.starts_with(option.as_bytes()) {
                secrets.push(inner(text, at.start + option.len()..at.end));
            }
        }
        for (option, sign) in program.logins {
            let bundled = option.len() == 2
                && this.starts_with(b"-")
                && !this.starts_with(b"--")
                && this.ends_with(&option.as_bytes()[1..]);
            let login = if option.as_bytes() == this || (bundled && this[1..].iter().all(u8::is_ascii_alphabetic)) {
                next.cloned()
            } else if option.starts_with("--") {
                let value = this.strip_prefix(option.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
                value.map(|value| inner(text, at.end - value.len()..at.end))
            } else {
                (this.starts_with(option.as_bytes()) && this.len() > 2).then(|| inner(text, at.start + 2..at.end))
            };
            secrets.extend(login.and_then(|login| login_secret(text, login, *sign)));
        }
        for (keyword, skipped) in program.words {
            if keyword.as_bytes() == this {
                secrets.extend(words.get(i + 1 + skipped).filter(|w| !text[(*w).clone()].starts_with(b"-")).cloned());
            }
        }
        // `vault kv put path name=secret`
        if matches!(program.names, ["vault", ..])
            && (1..i).any(|n| matches!(word(n), b"put" | b"write" | b"patch"))
            && let Some(n) = this.iter().position(|b| *b == b'=')
        {
            secrets.push(inner(text, at.start + n + 1..at.end));
        }
    }
    for span in secrets {
        secret(search, span);
    }
}

fn secret(search: &mut Search<'_>, span: Range<usize>) {
    if !values::is_no_secret(&search.text[span.clone()]) {
        search.found.push(span);
    }
}

/// The secret part of `user:password`; the user if nothing follows the separator, as with the keys of some services.
fn login_secret(text: &[u8], login: Range<usize>, sign: u8) -> Option<Range<usize>> {
    let value = &text[login.clone()];
    let n = value.iter().position(|b| *b == sign)?;
    // an address, or the path of a certificate
    if value[n..].starts_with(b"://") || value.starts_with(b"/") {
        return None;
    }
    let password = login.start + n + 1..login.end;
    Some(if password.is_empty() { login.start..login.start + n } else { password })
}

/// Words of a command from `at` on, without quotes around them.
fn command(search: &Search<'_>, at: usize) -> Vec<Range<usize>> {
    let text = &search.text[..search.text.len().min(at + MAX_COMMAND_BYTES)];
    let mut words = Vec::new();
    let mut i = at;
    // the quote around a whole command
    let mut outer = search.at(at).filter(|b| is_quote(*b));
    while words.len() < MAX_WORDS {
        let blank = |b: u8| values::is_blank(b) || b == b',' || (b == b'\n' && search.form != Form::Text);
        i = until(text, i, |b| !blank(b) && outer.is_none_or(|q| b != q));
        if outer.is_some() && i > at && text[at..i].contains(&b',') {
            // words of a list
            outer = None;
            i -= usize::from(is_quote(text[i - 1]));
        }
        let Some(first) = text.get(i) else { break };
        match first {
            b'\n' | b'\r' | b'|' | b'&' | b';' | b')' | b']' => break,
            b'\\' if text.get(i + 1) == Some(&b'\n') => i += 2,
            quote if is_quote(*quote) => {
                let end = values::closing_quote(text, i);
                words.push(i + 1..end.min(text.len()));
                i = end + 1;
            }
            _ => {
                let start = i;
                while i < text.len() && !text[i].is_ascii_whitespace() && !matches!(text[i], b'|' | b';' | b']') {
                    if is_quote(text[i]) && i > start && matches!(text[i - 1], b'=' | b'p' | b'P' | b':' | b'u') {
                        i = values::closing_quote(text, i);
                    } else if is_quote(text[i]) && outer.is_none_or(|q| q == text[i]) {
                        break;
                    }
                    i += 1;
                }
                words.push(start..i.min(text.len()));
            }
        }
    }
    words
}

fn inner(text: &[u8], span: Range<usize>) -> Range<usize> {
    values::without_quotes(text, span)
}

/// `sqlplus user/password@database`.
fn oracle(search: &mut Search<'_>, words: &[Range<usize>]) {
    for word in words {
        let value = &search.text[word.clone()];
        let Some(n) =
            value.iter().position(|b| *b == b'/').filter(|n| *n > 0 && !value.starts_with(b"-") && !value.starts_with(b"@"))
        else {
            continue;
        };
        let end = value.iter().rposition(|b| *b == b'@').filter(|at| *at > n).unwrap_or(value.len());
        return secret(search, word.start + n + 1..word.start + end);
    }
}

/// `htpasswd -b file user password`, `htpasswd -nb user password`.
fn htpasswd(search: &mut Search<'_>, words: &[Range<usize>]) {
    let text = search.text;
    let batch = words.iter().any(|w| text[w.clone()].starts_with(b"-") && text[w.clone()].contains(&b'b'));
    if let Some(last) = words.last().filter(|w| batch && words.len() >= 3 && !text[(*w).clone()].starts_with(b"-")) {
        secret(search, last.clone());
    }
}

/// `--from-literal=name=secret`.
fn from_literal(search: &mut Search<'_>, at: usize) {
    let text = search.text;
    let start = until(text, at, |b| b != b'=' && !values::is_blank(b) && !(b == b'\n' && search.form != Form::Text));
    let quote = text.get(start).copied().filter(|b| is_quote(*b));
    let from = start + usize::from(quote.is_some());
    let limit = text.len().min(from + 256);
    let Some(sign) = text[from.min(limit)..limit].iter().position(|b| *b == b'=' || b.is_ascii_whitespace()).map(|n| from + n)
    else {
        return;
    };
    if text[sign] != b'=' {
        return;
    }
    let end = match quote {
        Some(_) => values::closing_quote(text, start),
        None if text.get(sign + 1).copied().is_some_and(is_quote) => values::closing_quote(text, sign + 1) + 1,
        None => values::word_end(text, sign + 1),
    };
    let span = inner(text, sign + 1..end.min(text.len()));
    secret(search, span);
}

/// Parses `echo user:password | chpasswd`, `echo password | sudo -S`.
fn piped(search: &mut Search<'_>, start: usize, end: usize) {
    /// Maximum distance of a preceding `echo`.
    const MAX_LOOKBACK: usize = 256;
    let text = search.text;
    let sudo = &text[start..end] == b"sudo";
    let before = text[start.saturating_sub(MAX_LOOKBACK)..start].trim_ascii_end();
    let (Some(left), Some(n)) = (before.strip_suffix(b"|"), memchr::memmem::rfind(before, b"echo ")) else { return };
    if sudo && !command(search, end).iter().take(4).any(|w| text[w.clone()].starts_with(b"-") && text[w.clone()].contains(&b'S'))
    {
        return;
    }
    let from = start.saturating_sub(MAX_LOOKBACK) + n + 5;
    let to = start.saturating_sub(MAX_LOOKBACK) + left.trim_ascii_end().len();
    if from >= to {
        return;
    }
    let from = if text[from..to].starts_with(b"-n ") || text[from..to].starts_with(b"-e ") { from + 3 } else { from };
    let output = inner(text, from..to);
    match text[output.clone()].iter().position(|b| *b == b':').filter(|_| !sudo) {
        Some(n) => secret(search, output.start + n + 1..output.end),
        None if sudo => secret(search, output),
        None => {}
    }
}
