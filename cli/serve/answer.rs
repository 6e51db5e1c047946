//! An answer's text taken apart while it grows: what was thought, what is said, which functions
//! are to be called.
//!
//! ```text
//! <think>…</think>           thought, at the beginning alone
//! <tool_call>{…}</tool_call> a call: {"name": …, "arguments": {…}}
//! ```
//!
//! Nothing that may turn out to be part of a marker is shown before that is known.

use super::tools::{self, Call};

/// Where a thought begins.
pub(crate) const THINK: &str = "<think>";
/// Where it ends.
pub(crate) const THINK_END: &str = "</think>";
/// Where a call begins.
pub(crate) const CALL: &str = "<tool_call>";
/// Where it ends.
pub(crate) const CALL_END: &str = "</tool_call>";

/// What an answer may be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerKind {
    /// It may begin with a thought.
    pub(crate) may_think: bool,
    /// The prompt has begun the thought.
    pub(crate) is_thinking: bool,
    /// It may have calls.
    pub(crate) may_call: bool,
    /// It is a call and nothing else, without markers.
    pub(crate) is_call: bool,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Thought.
    Reasoning(String),
    /// Said.
    Content(String),
    /// To be called.
    Call(Call),
}

/// Takes an answer apart.
#[derive(Debug)]
pub(crate) struct AnswerParser {
    kind: AnswerKind,
    place: Place,
    /// Text that is not placed yet.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything but white space.
    Start,
    /// Before a thought's first line.
    Opening,
    Thought,
    /// Behind a thought or a call, before anything but white space.
    Between,
    Content,
    Call,
}

impl AnswerParser {
    pub(crate) fn new(kind: AnswerKind) -> Self {
        let place = match kind {
            kind if kind.is_thinking => Place::Opening,
            kind if kind.may_think => Place::Start,
            kind => after_thought(kind),
        };
        Self {
            kind,
            place,
            held: String::new(),
        }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// What is left when no more will come.
    pub(crate) fn finish(mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::Opening | Place::Thought => said(Piece::Reasoning, held),
            Place::Call => match tools::parse_call(&held) {
                Some(call) => vec![Piece::Call(call)],
                None if self.kind.is_call => said(Piece::Content, held),
                None => said(Piece::Content, format!("{CALL}{held}")),
            },
            Place::Between if held.trim().is_empty() => Vec::new(),
            Place::Start | Place::Between | Place::Content => said(Piece::Content, held),
        }
    }

    /// Places what can be placed; whether the rest may now be placed, too.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.place {
            Place::Start => {
                let rest = self.held.trim_start();
                if let Some(thought) = rest.strip_prefix(THINK) {
                    self.held = thought.to_owned();
                    self.place = Place::Opening;
                    return true;
                }
                if THINK.starts_with(rest) {
                    return false;
                }
                self.place = after_thought(self.kind);
                true
            }
            Place::Opening => {
                self.held = self.held.trim_start_matches('\n').to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.place = Place::Thought;
                true
            }
            Place::Thought => match self.until(THINK_END, pieces, Piece::Reasoning) {
                true => {
                    self.place = Place::Between;
                    true
                }
                false => false,
            },
            Place::Between => {
                let rest = self.held.trim_start();
                if rest.is_empty() {
                    return false;
                }
                self.held = rest.to_owned();
                self.place = after_thought(self.kind);
                true
            }
            Place::Content if !self.kind.may_call => {
                pieces.extend(said(Piece::Content, std::mem::take(&mut self.held)));
                false
            }
            Place::Content => match self.until(CALL, pieces, Piece::Content) {
                true => {
                    self.place = Place::Call;
                    true
                }
                false => false,
            },
            Place::Call => self.end_call(pieces),
        }
    }

    /// A call that is complete; one that cannot be read was meant as text.
    fn end_call(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.kind.is_call {
            return false;
        }
        let Some((text, rest)) = self.held.split_once(CALL_END) else {
            return false;
        };
        pieces.push(match tools::parse_call(text) {
            Some(call) => Piece::Call(call),
            None => Piece::Content(format!("{CALL}{text}{CALL_END}")),
        });
        self.held = rest.to_owned();
        self.place = Place::Between;
        true
    }

    /// Hands out what comes before `marker`, or cannot be part of it; whether it was there.
    fn until(&mut self, marker: &str, pieces: &mut Vec<Piece>, piece: fn(String) -> Piece) -> bool {
        let (end, next, found) = match self.held.find(marker) {
            Some(at) => (at, at + marker.len(), true),
            None => {
                let end = self.held.len() - open_suffix(&self.held, marker);
                (end, end, false)
            }
        };
        let rest = self.held.split_off(next);
        self.held.truncate(end);
        pieces.extend(said(piece, std::mem::replace(&mut self.held, rest)));
        found
    }
}

fn after_thought(kind: AnswerKind) -> Place {
    match kind.is_call {
        true => Place::Call,
        false => Place::Content,
    }
}

fn said(piece: fn(String) -> Piece, text: String) -> Vec<Piece> {
    match text.is_empty() {
        true => Vec::new(),
        false => vec![piece(text)],
    }
}

/// Length of the longest end of `text` that begins `marker`.
fn open_suffix(text: &str, marker: &str) -> usize {
    let starts = text.char_indices().map(|(at, _)| &text[at..]);
    let mut open = starts.filter(|end| end.len() < marker.len() && marker.starts_with(end));
    open.next().map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of `text`, told `n` characters at a time, neighbours of a kind joined.
    fn parse(kind: AnswerKind, text: &str, n: usize) -> Vec<Piece> {
        let mut parser = AnswerParser::new(kind);
        let chars: Vec<char> = text.chars().collect();
        let mut pieces: Vec<Piece> = chars
            .chunks(n)
            .flat_map(|chunk| parser.push(&chunk.iter().collect::<String>()))
            .collect();
        pieces.extend(parser.finish());
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Content(all)), Piece::Content(text)) => all.push_str(&text),
                (Some(Piece::Reasoning(all)), Piece::Reasoning(text)) => all.push_str(&text),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    fn content(text: &str) -> Piece {
        Piece::Content(text.to_owned())
    }

    fn reasoning(text: &str) -> Piece {
        Piece::Reasoning(text.to_owned())
    }

    fn call(name: &str, arguments: &str) -> Piece {
        Piece::Call(Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        })
    }

    #[test]
    fn pieces_do_not_depend_on_how_the_text_is_cut() {
        let all = AnswerKind {
            may_think: true,
            may_call: true,
            ..AnswerKind::default()
        };
        let thinking = AnswerKind {
            is_thinking: true,
            ..all
        };
        let plain = AnswerKind::default();
        let only_call = AnswerKind {
            is_call: true,
            ..plain
        };
        let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
        let cases = [
            (
                plain,
                "a <think>b</think>",
                vec![content("a <think>b</think>")],
            ),
            (
                all,
                "\n<think>\nhm é</think>\n\nyes",
                vec![reasoning("hm é"), content("yes")],
            ),
            (all, "<thin", vec![content("<thin")]),
            (all, " <think>never ends", vec![reasoning("never ends")]),
            (
                all,
                "a <think>b</think>",
                vec![content("a <think>b</think>")],
            ),
            (
                thinking,
                "hm</think>yes",
                vec![reasoning("hm"), content("yes")],
            ),
            (thinking, "hm</thin", vec![reasoning("hm</thin")]),
            (
                all,
                &format!("so: {one}"),
                vec![content("so: "), call("f", "{\"x\":1}")],
            ),
            (
                all,
                &format!("{one}\n{one}"),
                vec![call("f", "{\"x\":1}"), call("f", "{\"x\":1}")],
            ),
            (
                all,
                "<tool_call>no</tool_call>.",
                vec![content("<tool_call>no</tool_call>.")],
            ),
            (all, "<tool_call>{\"name\":\"f\"}", vec![call("f", "{}")]),
            (all, "<tool_call>{\"na", vec![content("<tool_call>{\"na")]),
            (all, "1 < 2 <tool", vec![content("1 < 2 <tool")]),
            (
                only_call,
                "{\"name\":\"f\",\"arguments\":{}}",
                vec![call("f", "{}")],
            ),
            (only_call, "{\"name\":", vec![content("{\"name\":")]),
        ];
        for (kind, text, expected) in cases {
            for n in [1, 2, 3, 7, 1000] {
                assert_eq!(parse(kind, text, n), expected, "{text:?} by {n}");
            }
        }
    }

    #[test]
    fn text_that_cannot_begin_a_marker_is_not_held() {
        let mut parser = AnswerParser::new(AnswerKind {
            may_call: true,
            ..AnswerKind::default()
        });
        assert_eq!(parser.push("a <too"), [content("a ")]);
        assert_eq!(parser.push("b"), [content("<toob")]);
    }
}
