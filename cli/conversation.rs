//! What has been said in a chat, and the ids the model sees of it.

use std::path::Path;

use anyhow::Context;
use onward_tokenizer::{ChatTemplate, Message, Tokenizer};

use crate::prompt::prompt_ids;

/// A conversation: instructions and turns.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    system: Option<String>,
    turns: Vec<Turn>,
}

#[derive(Debug)]
struct Turn {
    user: String,
    answer: String,
    /// The rendered prompt and the answer, as text and as the ids that are in the cache.
    text: String,
    ids: Vec<u32>,
}

/// What the model is to see before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// The rendered conversation.
    pub(crate) text: String,
    /// Its ids.
    pub(crate) ids: Vec<u32>,
}

impl Conversation {
    /// An empty conversation under `system`, if there are instructions.
    pub(crate) fn new(system: Option<String>) -> Self {
        Self {
            system,
            turns: Vec::new(),
        }
    }

    /// Forgets all turns.
    pub(crate) fn reset(&mut self) {
        self.turns.clear();
    }

    /// Forgets the last turn; false if there is none.
    pub(crate) fn undo(&mut self) -> bool {
        self.turns.pop().is_some()
    }

    /// The whole conversation with `user`'s new message, ready to be answered.
    ///
    /// The ids of the earlier turns are those the model has read and drawn itself. Encoding an
    /// answer's text again may split it otherwise, and all that follows would have to be
    /// computed anew.
    pub(crate) fn prompt(
        &self,
        user: &str,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Prompt> {
        let mut messages = self.messages();
        messages.push(message("user", user));
        let text = template.render(&messages, true)?;
        let ids = match self.continued(&text, tokenizer)? {
            Some(ids) => ids,
            None => prompt_ids(tokenizer, &text)?,
        };
        Ok(Prompt { text, ids })
    }

    /// Adds an answered turn.
    pub(crate) fn push(&mut self, user: String, prompt: Prompt, answer: String, drawn: &[u32]) {
        let Prompt { mut text, mut ids } = prompt;
        text.push_str(&answer);
        ids.extend_from_slice(drawn);
        self.turns.push(Turn {
            user,
            answer,
            text,
            ids,
        });
    }

    /// The ids of `text` where it goes on from the last turn with a token that ends an answer,
    /// so that the border is one between tokens too.
    fn continued(&self, text: &str, tokenizer: &Tokenizer) -> anyhow::Result<Option<Vec<u32>>> {
        let Some(turn) = self.turns.last() else {
            return Ok(None);
        };
        let Some(rest) = text.strip_prefix(&turn.text) else {
            return Ok(None);
        };
        let rest = tokenizer.encode(rest, false)?;
        let ends_answer = rest
            .first()
            .is_some_and(|id| tokenizer.stop_ids().contains(id));
        Ok(ends_answer.then(|| [turn.ids.as_slice(), &rest].concat()))
    }

    fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| message("system", text));
        let turns = self.turns.iter().flat_map(|turn| {
            [
                message("user", &turn.user),
                message("assistant", &turn.answer),
            ]
        });
        system.chain(turns).collect()
    }

    /// Writes the conversation to a file: JSON messages if its name ends in `.json`, else text
    /// under headings.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let messages = self.messages();
        let text = if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let values: Vec<_> = messages
                .iter()
                .map(|m| serde_json::json!({"role": m.role, "content": m.content}))
                .collect();
            serde_json::to_string_pretty(&values)? + "\n"
        } else {
            messages
                .iter()
                .map(|m| format!("## {}\n\n{}\n\n", m.role, m.content.trim_end()))
                .collect()
        };
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A message of `role`.
pub(crate) fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}
