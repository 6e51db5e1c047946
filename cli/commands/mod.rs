//! The subcommands, one module each: its flags and what it does.

pub(crate) mod batch;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod next;
pub(crate) mod perplexity;
pub(crate) mod serve;
pub(crate) mod tokenize;
