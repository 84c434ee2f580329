//! Output style: colour, width, character set, verbosity.

use clap::ValueEnum;

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Environment of the process.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a terminal")]
#[derive(Debug, Clone, Default)]
pub struct OutputEnvironment {
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set and not 0.
    pub force_color: bool,
    /// `TERM=dumb`.
    pub dumb: bool,
    /// The locale's character set is UTF-8.
    pub utf8: bool,
    /// Width of the terminal in cells.
    pub width: Option<u16>,
}

impl OutputEnvironment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let get = |name: &str| opsctl_core::probe::environment(name).filter(|v| !v.is_empty());
        let locale = get("LC_ALL").or_else(|| get("LC_CTYPE")).or_else(|| get("LANG"));
        Self {
            no_color: get("NO_COLOR").is_some(),
            force_color: get("CLICOLOR_FORCE").is_some_and(|v| v != "0"),
            dumb: get("TERM").is_some_and(|t| t == "dumb"),
            // cron and cloud-init set no locale; their output is read as UTF-8 by later programs
            utf8: locale.is_none_or(|l| {
                let l = l.to_ascii_lowercase();
                l.contains("utf-8") || l.contains("utf8")
            }),
            width: rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|w| w.ws_col).filter(|w| *w > 0),
        }
    }
}

/// The resulting style.
#[expect(clippy::struct_excessive_bools, reason = "independent choices of how to write")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Use colour.
    pub color: bool,
    /// Only ASCII.
    pub ascii: bool,
    /// Cells per line.
    pub width: u16,
    /// Only open findings.
    pub quiet: bool,
    /// Also info findings, skipped checks and all evidence.
    pub verbose: bool,
}

/// Widths outside this range are impossible or unreadable.
const WIDTHS: std::ops::RangeInclusive<u16> = 60..=160;
/// Width for a file or a pipe.
const PIPED_WIDTH: u16 = 100;

impl Style {
    /// For a file: no colour, fixed width, default verbosity.
    #[must_use]
    pub fn plain() -> Self {
        Self { color: false, ascii: false, width: PIPED_WIDTH, quiet: false, verbose: false }
    }

    /// For standard output.
    #[must_use]
    pub fn of(environment: &OutputEnvironment, choice: ColorChoice, terminal: bool) -> Self {
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => !environment.no_color && (environment.force_color || (terminal && !environment.dumb)),
        };
        let width = if terminal { environment.width.unwrap_or(PIPED_WIDTH) } else { PIPED_WIDTH };
        Self {
            color,
            ascii: !environment.utf8 || environment.dumb,
            width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
            quiet: false,
            verbose: false,
        }
    }

    /// Sets the verbosity.
    #[must_use]
    pub fn with_detail(self, quiet: bool, verbose: u8) -> Self {
        Self { quiet, verbose: verbose > 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> OutputEnvironment {
        OutputEnvironment { utf8: true, width: Some(80), ..OutputEnvironment::default() }
    }

    #[test]
    fn colour_depends_on_terminal_and_environment() {
        let color = |environment: &OutputEnvironment, choice, tty| Style::of(environment, choice, tty).color;
        assert!(color(&terminal(), ColorChoice::Auto, true));
        assert!(!color(&terminal(), ColorChoice::Auto, false));
        assert!(!color(&OutputEnvironment { no_color: true, ..terminal() }, ColorChoice::Auto, true));
        assert!(!color(&OutputEnvironment { dumb: true, ..terminal() }, ColorChoice::Auto, true));
        assert!(color(&OutputEnvironment { no_color: true, ..terminal() }, ColorChoice::Always, false));
        assert!(color(&OutputEnvironment { force_color: true, ..terminal() }, ColorChoice::Auto, false));
        assert!(!color(&terminal(), ColorChoice::Never, true));
    }

    #[test]
    fn width_is_bounded_and_fixed_for_pipes() {
        assert_eq!(Style::of(&OutputEnvironment { width: Some(20), ..terminal() }, ColorChoice::Auto, true).width, 60);
        assert_eq!(Style::of(&OutputEnvironment { width: Some(400), ..terminal() }, ColorChoice::Auto, true).width, 160);
        assert_eq!(Style::of(&terminal(), ColorChoice::Auto, false).width, 100);
    }
}
