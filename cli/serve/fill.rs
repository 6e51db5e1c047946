//! Prompts that ask for what stands between two texts, for models trained to fill it in.
//!
//! `prefix-token prefix suffix-token suffix middle-token`: the completion is the middle. Source:
//! Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle", PSM.

use super::app::Loaded;
use super::protocol::error::ApiError;
use super::{limits, tokens};

/// The tokens before the prefix, the suffix and the middle, as families name them.
const MARKERS: [[&str; 3]; 5] = [
    // Qwen2.5-Coder, CodeGemma
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder, Granite
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // Code Llama
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    // DeepSeek-Coder
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
];

/// The prompt for what stands between `prefix` and `suffix`.
///
/// # Errors
/// 400 where the vocabulary has no tokens for it, or a text does not fit the context.
pub(crate) fn prompt(loaded: &Loaded, prefix: &str, suffix: &str) -> Result<Vec<u32>, ApiError> {
    let model = loaded.model();
    let tokenizer = &model.tokenizer;
    let ids = |names: &[&str; 3]| {
        let [prefix, suffix, middle] = names.map(|name| tokenizer.id_of(name));
        Some([prefix?, suffix?, middle?])
    };
    let Some([before_prefix, before_suffix, before_middle]) = MARKERS.iter().find_map(ids) else {
        let message = "this model's vocabulary has no tokens for filling in between prompt and \
                       suffix";
        return Err(ApiError::limit("suffix_not_supported", "suffix", message));
    };
    limits::text("prompt", prefix.len(), model.n_ctx)?;
    limits::text("suffix", suffix.len(), model.n_ctx)?;
    let mut prompt: Vec<u32> = Vec::new();
    if tokenizer.adds_bos() {
        prompt.extend(tokenizer.bos());
    }
    prompt.push(before_prefix);
    prompt.extend(tokens::encode(loaded, "prompt", prefix)?);
    prompt.push(before_suffix);
    prompt.extend(tokens::encode(loaded, "suffix", suffix)?);
    prompt.push(before_middle);
    Ok(prompt)
}
