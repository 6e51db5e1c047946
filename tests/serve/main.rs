//! `onward serve` as its clients see it: the real command on a port of its own, asked by raw HTTP
//! and by the official Python client.
//!
//! Most tests serve the tiny model, whose text is noise but the same noise every time; what needs
//! sense, a chat template with tools above all, is asked of Qwen2.5-Coder 0.5B (`make models`).

mod chat;
mod completions;
mod ends;
mod http;
mod limits;
mod page;
mod python;
mod routes;
mod server;
mod streams;
