//! What may be drawn at each position of one request: a thought that comes to an end in time,
//! then the texts of a grammar.

use super::grammar::Guide;
use crate::error::Result;

/// A bound on what a model thinks before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thinking {
    /// The tokens that end a thought; at least one.
    pub end: Vec<u32>,
    /// Tokens that may be drawn before they are forced.
    pub budget: usize,
}

/// Decides what may be drawn next.
pub(crate) struct Steering {
    thought: Option<Thought>,
    guide: Option<Guide>,
    mask: Vec<u32>,
    /// Whether the last mask allows everything, and so will all that follow.
    is_free: bool,
}

/// A thought that has not ended.
struct Thought {
    thinking: Thinking,
    drawn: Vec<u32>,
    /// Tokens of the end that were drawn last.
    n_matched: usize,
    /// Whether the end is being forced.
    is_forced: bool,
}

impl Steering {
    /// For a vocabulary of `vocab` tokens; none where everything may always be drawn.
    pub(crate) fn new(
        vocab: usize,
        thinking: Option<&Thinking>,
        guide: Option<Guide>,
    ) -> Option<Self> {
        let thought = thinking.map(|thinking| Thought {
            thinking: thinking.clone(),
            drawn: Vec::new(),
            n_matched: 0,
            is_forced: thinking.budget == 0,
        });
        (thought.is_some() || guide.is_some()).then(|| Self {
            thought,
            guide,
            mask: vec![u32::MAX; vocab.div_ceil(32)],
            is_free: false,
        })
    }

    /// Whether the masks to come all allow everything, and were set once already.
    pub(crate) fn is_free(&self) -> bool {
        self.is_free
    }

    /// The mask of the next token: bit `t % 32` of word `t / 32` is that of token `t`.
    ///
    /// # Errors
    /// A grammar that takes too long, or leaves no token.
    pub(crate) fn mask(&mut self) -> Result<&[u32]> {
        match (&self.thought, &mut self.guide) {
            (Some(thought), _) if thought.is_forced => {
                let token = thought.thinking.end[thought.n_matched] as usize;
                self.mask.fill(0);
                self.mask[token / 32] = 1 << (token % 32);
            }
            (None, Some(guide)) => guide.mask(&mut self.mask)?,
            (thought, _) => {
                self.mask.fill(u32::MAX);
                self.is_free = thought.is_none();
            }
        }
        Ok(&self.mask)
    }

    /// Takes the token that was drawn; true where the text is complete with it.
    ///
    /// # Errors
    /// A token that the grammar does not allow.
    pub(crate) fn accept(&mut self, token: u32) -> Result<bool> {
        if let Some(thought) = &mut self.thought {
            if thought.accept(token) {
                self.thought = None;
            }
            return Ok(false);
        }
        match &mut self.guide {
            Some(guide) => guide.accept(token),
            None => Ok(false),
        }
    }
}

impl Thought {
    /// Takes the token that was drawn; true where the thought ends with it.
    fn accept(&mut self, token: u32) -> bool {
        let end = &self.thinking.end;
        self.drawn.push(token);
        let mut beginnings = (1..=end.len()).rev();
        let longest = beginnings.find(|&n| self.drawn.ends_with(&end[..n]));
        self.n_matched = longest.unwrap_or(0);
        self.is_forced |= self.drawn.len() >= self.thinking.budget;
        self.n_matched == end.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thinking(end: &[u32], budget: usize) -> Steering {
        let thinking = Thinking {
            end: end.to_vec(),
            budget,
        };
        Steering::new(100, Some(&thinking), None).unwrap()
    }

    /// The only token that may be drawn, if there is only one.
    fn forced(steering: &mut Steering) -> Option<u32> {
        let mask = steering.mask().unwrap();
        let bits: u32 = mask.iter().map(|word| word.count_ones()).sum();
        let token = || (0..).find(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1);
        (bits == 1).then(token).flatten()
    }

    #[test]
    fn the_end_is_forced_when_the_budget_is_spent() {
        let mut steering = thinking(&[70, 3], 2);
        let mut drawn = Vec::new();
        for free in [5, 6, 7, 8, 9] {
            let token = forced(&mut steering).unwrap_or(free);
            steering.accept(token).unwrap();
            drawn.push(token);
        }
        assert_eq!(drawn, [5, 6, 70, 3, 9]);
        assert!(steering.is_free());
        assert_eq!(forced(&mut thinking(&[4], 0)), Some(4));
    }

    #[test]
    fn a_thought_that_ends_by_itself_is_let_alone() {
        let mut steering = thinking(&[70, 70, 3], 9);
        for token in [70, 5, 70, 70, 3, 6, 7, 8] {
            assert_eq!(forced(&mut steering), None);
            steering.accept(token).unwrap();
        }
        assert!(steering.is_free());
    }

    #[test]
    fn an_end_that_has_begun_is_completed() {
        let mut steering = thinking(&[70, 3], 2);
        steering.accept(5).unwrap();
        steering.accept(70).unwrap();
        assert_eq!(forced(&mut steering), Some(3));
    }
}
