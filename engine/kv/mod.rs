//! Pages of the KV cache: who holds them, and what is known of them.
//!
//! Pure bookkeeping: a page is a number. The keys and values themselves live in the backend's
//! cache ([`onward_kernels::Backend::KvCache`]); page `p` is the same place in every layer.

mod cache;
mod key;
#[cfg(test)]
mod tests;

pub(crate) use cache::{Cache, Holding, Match, Tail};
pub(crate) use key::common;
