//! A progress line on stderr that is removed at the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use opsctl_core::model::printable;

use super::timings::Timings;
use crate::engine::Progress as Event;
use crate::render::{ColorChoice, OutputEnvironment};

/// Shown only on a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Probes without a result so far.
    waiting: RefCell<BTreeSet<String>>,
    all: Cell<usize>,
    timings: Timings,
}

impl Progress {
    /// `enabled` is false for machine formats and `-q`.
    #[must_use]
    pub fn new(enabled: bool, color: ColorChoice) -> Self {
        let terminal = std::io::stderr().is_terminal() && !OutputEnvironment::of_process().dumb;
        let bar = (enabled && terminal).then(|| {
            let bar = ProgressBar::new_spinner();
            let template = if color == ColorChoice::Never { "{spinner} {msg}" } else { "{spinner:.cyan} {msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            // a run that ends sooner shows nothing
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, waiting: RefCell::default(), all: Cell::new(0), timings: Timings::default() }
    }

    /// Prints a permanent line on stderr.
    pub fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.println(line),
            // stderr may be closed
            _ => drop(writeln!(std::io::stderr().lock(), "{line}")),
        }
    }

    /// Shows the reason for waiting between two runs.
    pub fn wait(&self, reason: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(reason));
        }
    }

    /// Shows a step of the engine.
    pub fn show(&self, event: &Event) {
        self.timings.record(event);
        let Some(bar) = &self.bar else { return };
        match event {
            Event::Discovering => bar.set_message("discovering"),
            Event::Discovered { probes } => {
                self.all.set(probes.len());
                self.waiting.replace(probes.iter().cloned().collect());
            }
            Event::Finished { check, target } => {
                let mut waiting = self.waiting.borrow_mut();
                waiting.remove(&format!("{check} {target}"));
                // the probe that the run waits for, such as a walk through a full disk
                if let Some(next) = waiting.first() {
                    bar.set_message(format!(
                        "{}/{} waiting for {}",
                        self.all.get() - waiting.len(),
                        self.all.get(),
                        printable(next)
                    ));
                }
            }
            Event::Judging => bar.set_message("evaluating"),
            Event::ReadingChanges => bar.set_message("reading recent changes"),
            Event::Storing => {}
        }
    }

    /// The timings so far.
    #[must_use]
    pub fn timings(&self) -> String {
        self.timings.text()
    }

    /// Removes the line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
