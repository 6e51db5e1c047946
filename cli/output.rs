//! What goes to the terminal: text and JSON lines on stdout, the rest on stderr.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};

use onward_tokenizer::Tokenizer;
use serde::Serialize;

/// Whether colour may be used on a stream: a terminal, and `NO_COLOR` (no-color.org) not set.
pub(crate) fn colour_wanted(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How text is set off on a stream that shows colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// The style of stdout.
    pub(crate) fn stdout() -> Self {
        Self {
            colour: colour_wanted(io::stdout().is_terminal()),
        }
    }

    /// The style of stderr.
    pub(crate) fn stderr() -> Self {
        Self {
            colour: colour_wanted(io::stderr().is_terminal()),
        }
    }

    /// Text of minor importance.
    pub(crate) fn dim(self, text: impl Display) -> impl Display {
        self.painted("2", text)
    }

    /// A heading.
    pub(crate) fn bold(self, text: impl Display) -> impl Display {
        self.painted("1", text)
    }

    /// The part of a chart that counts.
    pub(crate) fn accent(self, text: impl Display) -> impl Display {
        self.painted("36", text)
    }

    /// What went wrong.
    pub(crate) fn alarm(self, text: impl Display) -> impl Display {
        self.painted("1;31", text)
    }

    fn painted<T: Display>(self, code: &'static str, text: T) -> Painted<T> {
        Painted {
            code: self.colour.then_some(code),
            text,
        }
    }
}

struct Painted<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

/// Writes `text` to stdout at once.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one JSON value and a line end to stdout at once.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    text(&line)
}

/// Writes a line to stderr. A closed stderr is no reason to stop.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The most characters of an error; a list of tensors that do not fit a model takes several
/// hundred.
const MAX_ERROR: usize = 1000;

/// Writes `error` and its causes to stderr as one line.
pub(crate) fn error(error: &anyhow::Error) {
    let sentence = one_line(&format!("{error:#}"), MAX_ERROR);
    note(format_args!(
        "{} {sentence}",
        Style::stderr().alarm("error:")
    ));
}

/// Text that may come out of a model file, as the terminal may have it: on one line, with what
/// would not be visible escaped, and of at most `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for c in text.chars().take(limit) {
        match c {
            '"' | '\'' | '\\' => line.push(c),
            c if c.is_whitespace() => line.push(' '),
            c => line.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(limit).is_some() {
        line.push('…');
    }
    line
}

/// `1 token`, `2 tokens`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// A size in bytes for people: `241.4 MB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A token's text as it can stand in a table: quoted, controls and line ends escaped.
pub(crate) fn token(tokenizer: &Tokenizer, id: u32) -> String {
    format!("{:?}", tokenizer.token_text(id).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_file_does_not_steer_the_terminal() {
        assert_eq!(one_line("It's \"Ünï\\ 日本\"", 99), "It's \"Ünï\\ 日本\"");
        assert_eq!(
            one_line("a\n\tb\u{1b}[2J\u{202e}", 99),
            "a  b\\u{1b}[2J\\u{202e}"
        );
        assert_eq!(one_line("日本語", 2), "日本…");
        assert_eq!(one_line("日本", 2), "日本");
    }

    #[test]
    fn sizes_read_well_at_every_scale() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (253_113_024, "253.1 MB"),
            (u64::MAX, "18446.7 PB"),
        ];
        for (n, expected) in cases {
            assert_eq!(bytes(n), expected);
        }
    }

    #[test]
    fn an_unpainted_text_is_the_text_itself() {
        let plain = Style { colour: false };
        assert_eq!(plain.alarm("x").to_string(), "x");
        let painted = Style { colour: true };
        assert_eq!(painted.alarm("x").to_string(), "\x1b[1;31mx\x1b[0m");
    }
}
