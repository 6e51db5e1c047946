//! Stop texts in streamed output: nothing that belongs to one is ever shown.

/// Watches a text for stop strings while it grows piece by piece.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far that may yet be the beginning of a stop string.
    held: String,
}

/// What a new piece made certain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    /// This text is safe to show; more may come.
    Text(String),
    /// A stop string appeared; this is what came before it.
    Stop(String),
}

impl StopMatcher {
    /// A matcher for these strings, none of them empty.
    pub(crate) fn new(stops: &[String]) -> Self {
        Self {
            stops: stops.to_vec(),
            held: String::new(),
        }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, piece: &str) -> Matched {
        self.held.push_str(piece);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min();
        if let Some(at) = first {
            self.held.truncate(at);
            return Matched::Stop(std::mem::take(&mut self.held));
        }
        let keep = self.open_suffix();
        let rest = self.held.split_off(self.held.len() - keep);
        Matched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The text still held back, when no more will come.
    pub(crate) fn finish(self) -> String {
        self.held
    }

    /// Length of the longest end of `held` that begins a stop string.
    fn open_suffix(&self) -> usize {
        let starts = self.held.char_indices().map(|(at, _)| at);
        starts
            .map(|at| &self.held[at..])
            .find(|suffix| self.stops.iter().any(|stop| stop.starts_with(suffix)))
            .map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<_> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut shown = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Matched::Text(text) => shown.push_str(&text),
                Matched::Stop(text) => return (shown + &text, true),
            }
        }
        (shown + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_split_over_pieces_never_shows() {
        assert_eq!(run(&["END"], &["abE", "N", "Dcd"]), ("ab".into(), true));
        assert_eq!(
            run(&["\n\n"], &["a\n", "b\n", "\nc"]),
            ("a\nb".into(), true)
        );
        assert_eq!(
            run(&["éa", "xyz"], &["é", "b", "xy"]),
            ("ébxy".into(), false)
        );
        assert_eq!(run(&["aab"], &["aa", "ab"]), ("a".into(), true));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), false));
    }

    #[test]
    fn the_earliest_of_several_stops_wins() {
        assert_eq!(run(&["cd", "bc"], &["abcd"]), ("a".into(), true));
    }

    #[test]
    fn text_that_cannot_begin_a_stop_is_not_held() {
        let mut matcher = StopMatcher::new(&["END".to_owned()]);
        assert_eq!(matcher.push("hello E"), Matched::Text("hello ".into()));
        assert_eq!(matcher.push("x"), Matched::Text("Ex".into()));
    }
}
