//! Output for monitoring systems, build servers and test harnesses, read by these programs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use opsctl::render::{Format, Style};
use opsctl_core::model::{
    FindingHistory, FindingStatus, History, JournalHead, Kind, Measure, Object, Report, Reported, Trend, Unit,
};

use crate::lab::{available, eventually, installed};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/two-incidents.json");

/// A name with every special character.
const EVIL: &str = "a'b=c|d \"e\" \\ <f>&amp; # TODO g\n\x1b[2J\u{FFFF}é";

/// The report of a recorded host from `opsctl diagnose` with these arguments.
fn diagnose(args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opsctl"));
    command.args(["diagnose", "--replay", RECORDING]).args(args).env("OPSCTL_STATE_DIR", "/nonexistent/opsctl");
    let output = command.env_remove("OPSCTL_CONFIG").stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The same report with every field, and with hostile names.
fn full() -> Report {
    let mut report: Report = serde_json::from_str(&diagnose(&["--format", "json"]).1).unwrap();
    let now = report.started_at;
    let evil = Object::named(Kind::Queue, EVIL);
    report.measures = vec![
        Measure::new(&Object::named(Kind::Mount, "/var"), "used", Unit::Percent, 97.25).limits(90.0, 95.0),
        Measure::new(&Object::named(Kind::Certificate, "a.example"), "expires_in", Unit::Seconds, 777_600.0)
            .lower_limits(1_209_600.0, 259_200.0),
        Measure::new(&Object::host(), "clock_offset", Unit::Seconds, -0.0125).limits(0.5, 5.0),
        Measure::new(&Object::named(Kind::Container, "web"), "memory", Unit::Bytes, 15_728_640.0),
        Measure::new(&evil, "messages", Unit::Count, 12.0).limits(10.0, 1e9),
    ];
    let mut waived: Reported = report.findings[0].clone();
    (waived.id, waived.waived, waived.finding.subject.name) = ("w1".to_owned(), Some(EVIL.to_owned()), EVIL.to_owned());
    let mut twin: Reported = report.findings[0].clone();
    (twin.id, twin.finding.subject.name, twin.owner) = ("w2".to_owned(), EVIL.to_owned(), Some(EVIL.to_owned()));
    // two objects of one name: a series may occur only once
    let more = ["w3", "w4"].map(|id| Reported { id: id.to_owned(), ..twin.clone() });
    report.findings.extend([waived, twin].into_iter().chain(more));
    report.checks[0].findings.push("w1".to_owned());
    // one that passes and one that fails
    for verdict in ["ok", "crit"] {
        let row = report.checks.iter_mut().find(|c| c.verdict == verdict).unwrap();
        EVIL.clone_into(&mut row.target);
    }
    report.journal = Some(JournalHead {
        file: "/var/lib/opsctl/journal.jsonl".to_owned(),
        entries: 12,
        head: "ab".repeat(32),
        signature: Some(format!("{}:{}", "01".repeat(8), "cd".repeat(64))),
        problem: Some(EVIL.to_owned()),
    });
    report.course = Some(History {
        findings: vec![FindingHistory {
            finding: "w2".to_owned(),
            standing: FindingStatus::Still,
            first_seen: now - SignedDuration::from_hours(72),
            times: 1,
        }],
        trends: vec![Trend {
            subject: "mount:/var".to_owned(),
            name: "used".to_owned(),
            unit: Unit::Percent,
            points: vec![(Timestamp::UNIX_EPOCH, 1.0), (now, 97.25)],
            limit: Some(95.0),
            reaches_limit_in_s: Some(86_400),
            says: EVIL.to_owned(),
        }],
        ..History::default()
    });
    report
}

fn as_file(dir: &Path, name: &str, format: Format, report: &Report) -> String {
    let path = dir.join(name);
    std::fs::write(&path, format.render(report, &Style::plain())).unwrap();
    path.display().to_string()
}

/// Exit code and output of a program.
fn output_of(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn count(report: &Report, verdicts: &[&str]) -> usize {
    report.checks.iter().filter(|c| verdicts.contains(&c.verdict.as_str())).count()
}

/// A node_exporter that reads one directory; terminated with the test.
struct Exporter(Child, u16);

impl Exporter {
    fn start(directory: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus-node-exporter")
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!("--collector.textfile.directory={}", directory.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child, port)
    }

    fn scrape(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.0 200").then_some(text)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The series of a text, with their values as numbers.
fn series(text: &str) -> Vec<(String, f64)> {
    let lines = text.lines().filter(|l| l.starts_with("opsctl_"));
    let mut series: Vec<_> = lines
        .map(|l| l.rsplit_once(' ').unwrap())
        .map(|(name, value)| {
            // the collector sorts labels
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let mut labels: Vec<&str> = labels.trim_end_matches('}').split("\",").map(|l| l.trim_end_matches('"')).collect();
            labels.sort_unstable();
            (format!("{name}{labels:?}"), value.parse().unwrap())
        })
        .collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

#[test]
fn metrics_are_scraped_by_node_exporter_and_pass_promtool() {
    if !installed(&["promtool", "prometheus-node-exporter"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("opsctl.prom");
    let (code, out) = diagnose(&["--output", &format!("prometheus={}", file.display())]);
    assert_eq!((code, file.metadata().unwrap().permissions().mode() & 0o777), (2, 0o644), "{out}");
    let exporter = Exporter::start(dir.path());
    let scraped = eventually(20, "node_exporter answers", || exporter.scrape());
    assert!(scraped.contains("\nnode_textfile_scrape_error 0\n"), "{scraped}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(series(&written).len() > 15, "{written}");
    assert_eq!(series(&scraped), series(&written));

    // and with every field of a report
    let report = full();
    let written = Format::Prometheus.render(&report, &Style::plain());
    std::fs::write(&file, &written).unwrap();
    let (code, output) =
        output_of(Command::new("sh").args(["-c", "exec promtool check metrics < \"$0\""]).arg(&file).stdin(Stdio::null()));
    assert_eq!((code, output.as_str()), (Some(0), ""), "{written}");
    let scraped = eventually(20, "node_exporter answers", || exporter.scrape());
    assert!(scraped.contains("\nnode_textfile_scrape_error 0\n"), "{scraped}");
    assert_eq!(series(&scraped), series(&written));
    for (name, value) in [
        ("opsctl_verdict", 2.0),
        ("opsctl_measure_ratio{name=\"used\",subject=\"mount:/var\"}", 0.9725),
        (
            "opsctl_measure_limit_seconds{limit=\"crit\",name=\"expires_in\",side=\"below\",subject=\"certificate:a.example\"}",
            259_200.0,
        ),
    ] {
        let line = scraped.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))).unwrap_or_default();
        assert_eq!(line.rsplit_once(' ').and_then(|(_, v)| v.parse().ok()), Some(value), "{name}: {line}");
    }
    // the metric is the time of the run, independent of the age of the file
    let last = series(&scraped).into_iter().find(|(n, _)| n.starts_with("opsctl_last_run_timestamp_seconds")).unwrap().1;
    assert!((last - report.started_at.as_second() as f64).abs() < 10.0, "{last}");
}

#[test]
fn junit_is_read_by_junitparser() {
    const READ: &str = r#"
import sys
from junitparser import JUnitXml, Failure, Error, Skipped
xml = JUnitXml.fromfile(sys.argv[1])
cases = [c for suite in xml for c in suite]
kinds = [k.__name__ for c in cases for k in (type(r) for r in c.result)]
xml.update_statistics()
print(len(list(xml)), len(cases), kinds.count("Failure"), kinds.count("Error"), kinds.count("Skipped"))
print(xml.tests, xml.failures, xml.errors, xml.skipped)
print(next(c.name for c in cases if "queue" in c.name or "TODO" in c.name))
print(sorted({r.type for c in cases for r in c.result if isinstance(r, Failure)})[0])
"#;
    let python = |args: &[&str]| output_of(Command::new("/usr/bin/python3").args(args));
    let parser = Path::new("/usr/bin/python3").exists() && python(&["-c", "import junitparser"]).0 == Some(0);
    if !available((!parser).then_some("needs python3-junitparser (tests/run installs it)")) || !installed(&["xmllint"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let report = full();
    let file = as_file(dir.path(), "report.xml", Format::Junit, &report);
    let (code, read) = python(&["-c", READ, &file]);
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 4), "{read}");
    let runbooks: std::collections::BTreeSet<_> = report.checks.iter().map(|c| &c.runbook).collect();
    let (bad, unknown, skip) = (count(&report, &["crit", "warn"]), count(&report, &["unknown"]), count(&report, &["skip"]));
    let all = report.checks.len();
    assert!(bad > 0 && skip > 0 && all > 10, "{read}");
    assert_eq!(lines[0], format!("{} {all} {bad} {unknown} {skip}", runbooks.len()));
    assert_eq!(lines[1], format!("{all} {bad} {unknown} {skip}"));
    assert_eq!(lines[2], "a'b=c|d \"e\" \\ <f>&amp; # TODO g \\u{1b}[2J\\u{ffff}é");
    assert!(report.findings.iter().any(|f| f.code == lines[3]), "{read}");
    assert_eq!(output_of(Command::new("xmllint").args(["--noout", &file])), (Some(0), String::new()));
}

#[test]
fn html_is_parsed_as_intended() {
    const READ: &str = r#"
import sys
from html.parser import HTMLParser
class Reader(HTMLParser):
    tags, texts, wild = set(), [], []
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.wild += [n for n, v in attrs if n.startswith("on") or n in ("src", "href", "style")]
    def handle_data(self, data):
        self.texts.append(data)
reader = Reader()
reader.feed(open(sys.argv[1], encoding="utf-8").read())
print(" ".join(sorted(reader.tags)))
print(reader.wild)
print(sum(sys.argv[2] in t for t in reader.texts))
"#;
    const TAGS: &str = "b body br code dd details div dl dt figcaption figure footer h1 h2 head header html li line main meta \
        p polygon polyline pre rect section span style summary svg table tbody td th thead title tr ul";
    if !available((!Path::new("/usr/bin/python3").exists()).then_some("needs python3 (tests/run installs it)")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = as_file(dir.path(), "report.html", Format::Html, &full());
    let shown = opsctl_core::model::printable(EVIL).replace('\u{FFFF}', "\\u{ffff}");
    let (code, read) = output_of(Command::new("/usr/bin/python3").args(["-c", READ, &file, &shown]));
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{read}");
    let strange: Vec<&str> = lines[0].split(' ').filter(|tag| !TAGS.split(' ').any(|t| t == *tag)).collect();
    assert!(strange.is_empty() && lines[1] == "[]", "{read}");
    // names, owners, a waiver, a trend: all of them are in the text
    assert!(lines[2].parse::<usize>().unwrap() >= 8, "{read}");
}

#[test]
fn tap_is_read_by_prove() {
    const READ: &str = r#"
my $parser = TAP::Parser->new({ exec => ["cat", $ARGV[0]] });
my (%codes, %why);
while (my $r = $parser->next) {
  if ($r->is_yaml) { $codes{$_->{code}} = $_->{hint} for @{ $r->data->{findings} || [] }; }
}
printf "%d %d %d %d %d\n", $parser->tests_planned, scalar $parser->passed, scalar $parser->failed, scalar $parser->skipped, scalar $parser->todo;
print join(" ", $parser->parse_errors), "\n";
print "$_: $codes{$_}\n" for sort keys %codes;
"#;
    if !installed(&["prove", "perl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let report = full();
    let file = as_file(dir.path(), "report.tap", Format::Tap, &report);
    let (code, read) = output_of(Command::new("perl").args(["-MTAP::Parser", "-e", READ, &file]));
    let lines: Vec<&str> = read.lines().collect();
    let (all, bad, skip) = (report.checks.len(), count(&report, &["crit", "warn", "unknown"]), count(&report, &["skip"]));
    assert!(code == Some(0) && lines.len() > 2, "{read}");
    assert_eq!((lines[0], lines[1]), (format!("{all} {} {bad} {skip} 0", all - bad).as_str(), ""), "{read}");
    for line in &lines[2..] {
        let (code, hint) = line.split_once(": ").unwrap();
        assert!(report.findings.iter().any(|f| f.code == code && f.hint == hint), "{line}");
    }
    let (code, output) = output_of(Command::new("prove").args(["--exec", "cat", &file]));
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("Failed {bad}/{all} subtests")) && !output.contains("Parse errors"), "{output}");
}

#[test]
fn nagios_output_is_read_by_monitoring_plugin() {
    const READ: &str = r#"
local $/;
my $text = <STDIN>;
my ($out, $perf) = $text =~ /\A(.*?) \| (.*?)\n/ or die "no perfdata";
print "$out\n";
for my $p (Monitoring::Plugin::Performance->parse_perfstring($perf)) {
  my $t = $p->threshold;
  print join(";", $p->label, $p->value, $p->uom, $t->get_status($p->value), $t->warning, $t->critical, $p->min // "", $p->max // ""), "\n";
}
"#;
    let module = || output_of(Command::new("perl").args(["-MMonitoring::Plugin::Performance", "-e", "1"])).0 == Some(0);
    let there = which::which("perl").is_ok() && module();
    if !available((!there).then_some("needs libmonitoring-plugin-perl (tests/run installs it)")) {
        return;
    }
    let (code, text) = diagnose(&["--format", "nagios"]);
    assert!(code == 2 && text.starts_with("OPSCTL CRITICAL - "), "{code} {text}");
    let report = full();
    let mut reader = Command::new("perl")
        .args(["-MMonitoring::Plugin::Performance", "-e", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(Format::Nagios.render(&report, &Style::plain()).as_bytes()).unwrap();
    let read = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = read.lines().skip(1).collect();
    // label, value, unit, verdict of its limits (0 ok, 1 warn, 2 crit), limits, minimum, maximum
    assert_eq!(
        &lines[4..],
        [
            "mount:/var used;97.25;%;2;90;95;0;100",
            "certificate:a.example expires_in;777600;s;1;1209600:;259200:;;",
            "host clock_offset;-0.0125;s;0;~:0.5;~:5;;",
            "queue:a_b_c_d \"e\" \\ <f>&amp; # TODO g \\u{1b}[2J\u{ffff}é messages;12;;1;10;1000000000;0;",
            "container:web memory;15728640;B;0;;;0;",
        ],
        "{read}"
    );
}
