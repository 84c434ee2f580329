//! One line on stderr that says what is being waited for, and disappears.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use opsctl_core::model::printable;

use super::style::{ColorChoice, Surroundings};
use super::timings::Timings;
use crate::engine::Progress as Event;

/// Shown only on a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    /// What has not answered yet.
    waiting: RefCell<BTreeSet<String>>,
    all: Cell<usize>,
    timings: Timings,
}

impl Progress {
    /// `wanted` is false for machine formats and `-q`.
    #[must_use]
    pub fn new(wanted: bool, color: ColorChoice) -> Self {
        let terminal = std::io::stderr().is_terminal() && !Surroundings::of_process().dumb;
        let bar = (wanted && terminal).then(|| {
            let bar = ProgressBar::new_spinner();
            let template = if color == ColorChoice::Never { "{spinner} {msg}" } else { "{spinner:.cyan} {msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            // a run that is over before the eye sees it shows nothing
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, waiting: RefCell::default(), all: Cell::new(0), timings: Timings::default() }
    }

    /// Says something that stays, on stderr.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.println(line),
            // nobody may be listening any more
            _ => drop(writeln!(std::io::stderr().lock(), "{line}")),
        }
    }

    /// Shows what is waited for between two looks.
    pub fn wait(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(what));
        }
    }

    /// Shows a step of the engine.
    pub fn show(&self, event: &Event) {
        self.timings.see(event);
        let Some(bar) = &self.bar else { return };
        match event {
            Event::Discovering => bar.set_message("looking what is there"),
            Event::Discovered { probes } => {
                self.all.set(probes.len());
                self.waiting.replace(probes.iter().cloned().collect());
            }
            Event::Finished { check, target } => {
                let mut waiting = self.waiting.borrow_mut();
                waiting.remove(&format!("{check} {target}"));
                // what everything else waits for, such as a walk through a full disk
                if let Some(next) = waiting.first() {
                    bar.set_message(format!(
                        "{}/{} waiting for {}",
                        self.all.get() - waiting.len(),
                        self.all.get(),
                        printable(next)
                    ));
                }
            }
            Event::Judging => bar.set_message("judging"),
            Event::LookingBack => bar.set_message("looking what was changed before"),
            Event::Remembering => {}
        }
    }

    /// What the time of the run went into so far.
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
