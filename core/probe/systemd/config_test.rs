//! Tests of the configuration of servers that do not run, or that rejected a reload: with an invalid one every start fails.
//!
//! A test runs as user 65534 with one capability, `CAP_DAC_READ_SEARCH`: it reads every file and changes none. It can therefore
//! fail at steps after the configuration was read (PID file, log, port below 1024); only a line that reports an error in the
//! configuration counts.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::blocking;
use crate::probe::io::command::{self, Argv};
use crate::probe::io::trusted;
use crate::probe::kernel::host;

/// Timeout of a test: nginx resolves the names of its upstreams.
const TEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of finding the program and checking the owner of the configuration.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads all files, writes none.
const READ_ONLY: &[&str] = &[
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
    "--",
];

/// The test of a server.
struct Test {
    /// Its programs, and its units without suffix and instance.
    servers: &'static [&'static str],
    program: &'static str,
    words: &'static [&'static str],
    /// Options of the server that name its configuration file.
    options: &'static [&'static str],
    /// The option of the test for that file; empty if the file is an operand.
    option: &'static str,
    /// The configuration file of packages.
    file: &'static str,
    /// The file is always on the command line of the test.
    needs_file: bool,
    /// The error in the output.
    error: fn(&str) -> Option<String>,
}

const TESTS: &[Test] = &[
    Test {
        servers: &["nginx"],
        program: "nginx",
        words: &["-t"],
        options: &["-c"],
        option: "-c",
        file: "/etc/nginx/nginx.conf",
        needs_file: false,
        error: nginx_error,
    },
    Test {
        servers: &["haproxy"],
        program: "haproxy",
        words: &["-c"],
        options: &["-f"],
        option: "-f",
        file: "/etc/haproxy/haproxy.cfg",
        needs_file: true,
        error: haproxy_error,
    },
    Test {
        servers: &["apache2", "apache2ctl", "apachectl"],
        program: "apache2ctl",
        words: &["-t"],
        options: &[],
        option: "",
        file: "/etc/apache2/apache2.conf",
        needs_file: false,
        error: apache_error,
    },
    Test {
        servers: &["httpd"],
        program: "httpd",
        words: &["-t"],
        options: &[],
        option: "",
        file: "/etc/httpd/conf/httpd.conf",
        needs_file: false,
        error: apache_error,
    },
    Test {
        servers: &["sshd", "ssh"],
        program: "sshd",
        words: &["-t"],
        options: &["-f"],
        option: "-f",
        file: "/etc/ssh/sshd_config",
        needs_file: false,
        error: sshd_error,
    },
    Test {
        servers: &["named", "bind9"],
        program: "named-checkconf",
        words: &[],
        options: &["-c"],
        option: "",
        file: "/etc/bind/named.conf",
        needs_file: false,
        error: named_error,
    },
    Test {
        servers: &["dnsmasq"],
        program: "dnsmasq",
        words: &["--test"],
        options: &["-C"],
        option: "-C",
        file: "/etc/dnsmasq.conf",
        needs_file: false,
        error: dnsmasq_error,
    },
    Test {
        servers: &["prometheus"],
        program: "promtool",
        words: &["check", "config"],
        options: &["--config.file"],
        option: "",
        file: "/etc/prometheus/prometheus.yml",
        needs_file: true,
        error: promtool_error,
    },
];

/// An invalid configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigError {
    /// The command that reports it: `nginx -t`.
    pub command: String,
    /// The error.
    pub error: String,
}

/// The result of a test of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigState {
    /// It passes this command.
    Valid(String),
    /// It does not.
    Invalid(ConfigError),
}

/// The error in the configuration of a service. `None` if it is valid, or if there is no test for it ([`config_state`]).
pub async fn config_error(unit: &str, command: &str) -> Option<ConfigError> {
    match config_state(unit, command).await? {
        ConfigState::Invalid(error) => Some(error),
        ConfigState::Valid(_) => None,
    }
}

/// Tests the configuration of a service. `None` if there is no test for it: unknown server, untrusted configuration file, no root.
pub async fn config_state(unit: &str, command: &str) -> Option<ConfigState> {
    if !host::is_root() {
        return None;
    }
    let test = test_of(unit, command)?;
    let named = named_file(test, command);
    let file = named.clone().unwrap_or_else(|| test.file.to_owned());
    let program = blocking::run("a program", test.program, LOOKUP_TIMEOUT, move |_| {
        // a file that another user can change is not read with the rights of root
        trusted::identity(Path::new(&file)).is_ok().then(|| command::program(test.program).ok()).flatten()
    });
    let program = program.await.ok().flatten()?;
    let mut argv = Argv::new("setpriv", READ_ONLY).operand(&program.path).ok()?;
    let mut shown = vec![test.program.to_owned()];
    for word in test.words {
        argv = argv.option(word);
        shown.push((*word).to_owned());
    }
    if let Some(file) = named.or_else(|| test.needs_file.then(|| test.file.to_owned())) {
        if !test.option.is_empty() {
            argv = argv.option(test.option);
            shown.push(test.option.to_owned());
        }
        argv = argv.operand(&file).ok()?;
        shown.push(file);
    }
    let ended = command::run(&argv, TEST_TIMEOUT).await.ok()?;
    let command = shown.join(" ");
    if ended.status.success() {
        return Some(ConfigState::Valid(command));
    }
    let error = (test.error)(&format!("{}\n{}", ended.stderr, ended.stdout))?;
    Some(ConfigState::Invalid(ConfigError { command, error: error.chars().take(400).collect() }))
}

/// The test for a service, by its program or its unit: units of packages start some servers by a script.
fn test_of(unit: &str, command: &str) -> Option<&'static Test> {
    let program = command.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let base = unit.strip_suffix(".service").unwrap_or(unit);
    let by = |name: &str| TESTS.iter().find(|test| test.servers.contains(&name));
    by(program).or_else(|| by(base))
}

/// The configuration file on the command line of the server. A variable is not known.
fn named_file(test: &Test, command: &str) -> Option<String> {
    let mut words = command.split(' ');
    let mut found = None;
    while let Some(word) = words.next() {
        for option in test.options {
            let value = match word.strip_prefix(*option) {
                Some("") => words.clone().next(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            found = value.filter(|path| path.starts_with('/')).map(str::to_owned).or(found);
        }
    }
    found
}

/// `2026/11/30 10:00:00 [emerg] 7#7: unknown directive "servr" in /etc/nginx/nginx.conf:1`. Errors after "syntax is ok" concern
/// files and ports.
fn nginx_error(output: &str) -> Option<String> {
    if output.contains("syntax is ok") {
        return None;
    }
    let (_, error) = output.lines().find_map(|l| l.split_once("[emerg] "))?;
    let error = error.split_once(": ").filter(|(process, _)| process.contains('#')).map_or(error, |(_, error)| error);
    Some(format!("[emerg] {error}"))
}

/// `[ALERT]    (7) : config : parsing [/etc/haproxy/haproxy.cfg:3] : unknown keyword 'x' in 'global' section`.
fn haproxy_error(output: &str) -> Option<String> {
    let parses = |line: &&str| line.contains("[ALERT]") && line.contains("parsing [") && !line.contains("Permission denied");
    let line = output.lines().find(parses)?;
    line.find("parsing [").and_then(|at| line.get(at..)).map(str::to_owned)
}

/// `AH00526: Syntax error on line 3 of /etc/apache2/sites-enabled/a.conf:` and the reason in the next line, or both in one.
fn apache_error(output: &str) -> Option<String> {
    let mut lines = output.lines();
    let line = lines.find(|l| l.contains("Syntax error on line"))?;
    let next = lines.next().unwrap_or_default().trim();
    let error = if line.ends_with(':') { format!("{line} {next}") } else { line.to_owned() };
    // directories in /run that the start script creates
    let later = ["Permission denied", "Mutex", "is not defined"].iter().any(|text| error.contains(text));
    (!later).then_some(error)
}

/// `/etc/ssh/sshd_config: line 3: Bad configuration option: x`.
fn sshd_error(output: &str) -> Option<String> {
    output.lines().find(|l| l.starts_with('/') && l.contains(" line ")).map(|l| l.trim().to_owned())
}

/// `/etc/bind/named.conf:3: unknown option 'x'`.
fn named_error(output: &str) -> Option<String> {
    let numbered = |line: &&str| line.split(':').nth(1).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    output.lines().find(|l| l.starts_with('/') && numbered(l)).map(str::to_owned)
}

/// `dnsmasq: bad option at line 1 of /etc/dnsmasq.conf`.
fn dnsmasq_error(output: &str) -> Option<String> {
    let line = output.lines().find(|l| l.contains(" at line ") && l.contains(" of /"))?;
    Some(line.strip_prefix("dnsmasq: ").unwrap_or(line).to_owned())
}

/// `  FAILED: parsing YAML file /p.yml: yaml: line 2: …`. A broken file of `file_sd_configs` prevents no start.
fn promtool_error(output: &str) -> Option<String> {
    let mut lines = output.lines().map(str::trim);
    let line = lines.find_map(|l| l.strip_prefix("FAILED: ").filter(|l| l.starts_with("parsing YAML file")))?;
    Some(if line.ends_with(':') { format!("{line} {}", lines.next().unwrap_or_default()) } else { line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_configuration() {
        let nginx = "nginx: [alert] could not open error log file: open() \"/var/log/e.log\" failed (13: Permission denied)\n\
            2026/11/30 10:00:00 [emerg] 7#7: unknown directive \"servr\" in /etc/nginx/nginx.conf:1\n";
        assert_eq!(nginx_error(nginx).as_deref(), Some("[emerg] unknown directive \"servr\" in /etc/nginx/nginx.conf:1"));
        let haproxy = "[ALERT]    (7) : config : parsing [/etc/haproxy/haproxy.cfg:3] : unknown keyword 'x' in 'global' section";
        assert_eq!(
            haproxy_error(haproxy).as_deref(),
            Some("parsing [/etc/haproxy/haproxy.cfg:3] : unknown keyword 'x' in 'global' section")
        );
        let apache = "AH00526: Syntax error on line 3 of /etc/apache2/a.conf:\nInvalid command 'X'\n";
        assert_eq!(
            apache_error(apache).as_deref(),
            Some("AH00526: Syntax error on line 3 of /etc/apache2/a.conf: Invalid command 'X'")
        );
        let sshd = "/etc/ssh/sshd_config: line 3: Bad configuration option: x\n/etc/ssh/sshd_config: terminating, 1 bad options";
        assert_eq!(sshd_error(sshd).as_deref(), Some("/etc/ssh/sshd_config: line 3: Bad configuration option: x"));
        assert_eq!(named_error("/etc/bind/a:3: unknown option 'x'").as_deref(), Some("/etc/bind/a:3: unknown option 'x'"));
        let dnsmasq = "\ndnsmasq: bad option at line 1 of /etc/dnsmasq.conf";
        assert_eq!(dnsmasq_error(dnsmasq).as_deref(), Some("bad option at line 1 of /etc/dnsmasq.conf"));
        let promtool = "Checking /p.yml\n  FAILED: parsing YAML file /p.yml: yaml: line 2: did not find expected node content\n";
        assert_eq!(
            promtool_error(promtool).as_deref(),
            Some("parsing YAML file /p.yml: yaml: line 2: did not find expected node content")
        );
    }

    #[test]
    fn failures_after_the_configuration_are_no_errors() {
        let nginx = "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n\
            2026/11/30 10:00:00 [emerg] 7#7: open() \"/run/nginx.pid\" failed (13: Permission denied)\n";
        assert_eq!(nginx_error(nginx), None);
        assert_eq!(
            haproxy_error("[ALERT] (7) : Starting frontend web: cannot bind socket (Permission denied) [0.0.0.0:80]"),
            None
        );
        assert_eq!(sshd_error("sshd: no hostkeys available -- exiting."), None);
        assert_eq!(promtool_error("  FAILED: checking SD file \"/f.json\": unexpected end of JSON input"), None);
        assert_eq!((apache_error(""), named_error(""), dnsmasq_error("")), (None, None, None));
    }

    #[test]
    fn tests_are_found_by_program_and_by_unit() {
        let of = |unit: &str, command: &str| test_of(unit, command).map(|t| t.program);
        assert_eq!(of("nginx.service", "/usr/sbin/nginx -g daemon on;"), Some("nginx"));
        assert_eq!(of("web.service", "/usr/sbin/haproxy -Ws -f $CONFIG"), Some("haproxy"));
        assert_eq!(of("dnsmasq.service", "/usr/share/dnsmasq/systemd-helper exec"), Some("dnsmasq"));
        assert_eq!(of("app.service", "/usr/bin/app"), None);
        let file = |command: &str| test_of("x.service", command).and_then(|t| named_file(t, command));
        assert_eq!(file("/usr/sbin/nginx -c /srv/nginx.conf").as_deref(), Some("/srv/nginx.conf"));
        assert_eq!(file("/usr/bin/prometheus --config.file=/srv/p.yml").as_deref(), Some("/srv/p.yml"));
        assert_eq!(file("/usr/sbin/haproxy -Ws -f $CONFIG -p /run/haproxy.pid"), None);
    }
}
