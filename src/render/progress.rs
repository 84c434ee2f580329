//! One line on stderr that says what is being waited for, and disappears.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use opsctl_core::model::printable;

use super::style::{ColorChoice, Surroundings};
use crate::engine::Progress as Event;

/// Shown only on a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    done: Cell<usize>,
    all: Cell<usize>,
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
        Self { bar, done: Cell::new(0), all: Cell::new(0) }
    }

    /// Shows a step of the engine.
    pub fn show(&self, event: &Event) {
        let Some(bar) = &self.bar else { return };
        match event {
            Event::Discovering => bar.set_message("looking what is there"),
            Event::Discovered { probes } => self.all.set(*probes),
            Event::Finished { check, target } => {
                self.done.set(self.done.get() + 1);
                bar.set_message(format!("{}/{} {check} {}", self.done.get(), self.all.get(), printable(target)));
            }
        }
    }

    /// Removes the line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
