//! `opsctl respond`: what an alert means on this host.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use opsctl_core::probe::Ask;

use super::Global;
use super::exit::Usage;
use super::run::{self, FailOn};
use crate::catalog::Catalog;
use crate::engine::Selection;
use crate::render::{self, Progress, Style, Surroundings};
use crate::respond::{self, Response};

/// The largest payload, in bytes.
const LARGEST: u64 = 4 << 20;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// For a chat message or an issue
    Markdown,
}

/// `opsctl respond`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The payload, as Alertmanager, Grafana or Prometheus send it; standard input without it
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Format on standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Form,
    /// Stop waiting after this long; what has not answered by then is unknown [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    deadline: Option<std::time::Duration>,
    /// The mildest verdict that makes the exit code differ from 0
    #[arg(long, value_name = "VERDICT", default_value = "unknown")]
    fail_on: FailOn,
}

/// Runs it.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    render::init_tracing(global.verbose);
    let config = run::load(global)?;
    let alerts = respond::parse(&payload(args)?).map_err(|e| Usage(e.to_string()))?;
    let selection = Selection { skip: config.skip.clone(), ..Selection::default() };
    let progress = Progress::new(args.format == Form::Text && !global.quiet, global.color);
    let looked = run::block_on(run::look(&config, &selection, Ask::default(), args.deadline, &progress))??;
    let catalog = Catalog::of(crate::site::runbooks(&config));
    let mut response = respond::respond(alerts, &looked.assessment.report, &catalog, &config, Some(&looked.store));
    response.fixes_switched_off = crate::fix::host_switched_off();
    let style = Style::of(&Surroundings::of_process(), global.color, std::io::IsTerminal::is_terminal(&std::io::stdout()));
    let text = match args.format {
        Form::Text => respond::table(&response, &style.with_detail(global.quiet, global.verbose)),
        Form::Json => render::json_document(&response)?,
        Form::Markdown => respond::markdown(&response),
    };
    render::print(&text)?;
    Ok(code(&response, args.fail_on))
}

/// The worst of the answers, as everywhere: what does not concern the alerts does not count here.
fn code(response: &Response, fail_on: FailOn) -> u8 {
    use opsctl_core::model::Verdict;
    let verdicts = response.answers.iter().map(|a| match a.verdict.as_str() {
        "crit" => Verdict::Crit,
        "warn" => Verdict::Warn,
        "unknown" => Verdict::Unknown(String::new()),
        _ => Verdict::Ok,
    });
    fail_on.exit_code(&Verdict::roll_up(&verdicts.collect::<Vec<_>>()))
}

fn payload(args: &Args) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let from = args.file.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let reading = || format!("reading the payload from {from}");
    let too_large = || Usage(format!("the payload from {from} is larger than 4 MiB: none is"));
    if let Some(path) = &args.file {
        if std::fs::metadata(path).with_context(reading)?.len() > LARGEST {
            return Err(too_large().into());
        }
        bytes = std::fs::read(path).with_context(reading)?;
    } else {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            let _ = writeln!(std::io::stderr(), "opsctl: reading the payload from standard input (end with Ctrl-D)");
        }
        std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes).with_context(reading)?;
    }
    if bytes.len() as u64 > LARGEST {
        return Err(too_large().into());
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Usage(format!("the payload from {from} is empty")).into());
    }
    Ok(bytes)
}
