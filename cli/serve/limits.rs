//! How much a request may ask for. What exceeds a limit is refused by the limit's name.

use super::protocol::error::ApiError;

/// Bytes of a body, unless `--max-body` says otherwise.
pub(crate) const MAX_BODY: usize = 16 << 20;
/// Completions of one request: prompts times `n`.
pub(crate) const MAX_CHOICES: usize = 128;
/// Alternatives reported with a token.
pub(crate) const MAX_TOP_LOGPROBS: usize = 20;
/// Stop texts.
pub(crate) const MAX_STOPS: usize = 16;
/// Bytes of a stop text.
pub(crate) const MAX_STOP_BYTES: usize = 1024;
/// Biased tokens.
pub(crate) const MAX_LOGIT_BIAS: usize = 1024;
/// Bytes of a JSON schema, a regular expression or a grammar.
pub(crate) const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Tools.
pub(crate) const MAX_TOOLS: usize = 128;
/// Messages of a conversation.
pub(crate) const MAX_MESSAGES: usize = 4096;
/// Texts of one request for embeddings.
pub(crate) const MAX_INPUTS: usize = 256;
/// Bytes of a value in `chat_template_kwargs`.
pub(crate) const MAX_KWARG_BYTES: usize = 1024;
/// Bytes of text that one token stands for at most, by a wide margin: a longer text is refused
/// before it is tokenized.
const MAX_BYTES_PER_TOKEN: usize = 128;

/// Refuses more than `limit` of something.
///
/// # Errors
/// An error whose code is `code`, about the field `param`.
pub(crate) fn at_most(
    code: &'static str,
    param: &str,
    what: &str,
    n: usize,
    limit: usize,
) -> Result<(), ApiError> {
    if n <= limit {
        return Ok(());
    }
    let message = format!("{n} {what} in {param} are more than the {limit} that are taken");
    Err(ApiError::limit(code, param, message))
}

/// Refuses a text that cannot fit the context however it is tokenized.
///
/// # Errors
/// `context_length_exceeded`.
pub(crate) fn text(param: &str, n_bytes: usize, n_ctx: usize) -> Result<(), ApiError> {
    let limit = n_ctx.saturating_mul(MAX_BYTES_PER_TOKEN);
    at_most("context_length_exceeded", param, "bytes", n_bytes, limit)
}

/// Refuses stop texts that are empty, too long or too many.
///
/// # Errors
/// `too_many_stops`, `stop_too_long` or `invalid_value`.
pub(crate) fn stops(stops: &[String]) -> Result<(), ApiError> {
    at_most("too_many_stops", "stop", "texts", stops.len(), MAX_STOPS)?;
    for stop in stops {
        at_most("stop_too_long", "stop", "bytes", stop.len(), MAX_STOP_BYTES)?;
        if stop.is_empty() {
            let message = "an empty text in stop would end every completion at once";
            return Err(ApiError::field("stop", message));
        }
    }
    Ok(())
}

/// Refuses a grammar that is too large to compile.
///
/// # Errors
/// `schema_too_large`.
pub(crate) fn schema(param: &str, n_bytes: usize) -> Result<(), ApiError> {
    at_most(
        "schema_too_large",
        param,
        "bytes",
        n_bytes,
        MAX_SCHEMA_BYTES,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive_and_named() {
        assert!(at_most("many", "x", "things", 3, 3).is_ok());
        let error = at_most("many", "x", "things", 4, 3).expect_err("four");
        assert_eq!(error.code(), "many");
        assert!(text("prompt", 128 * 8, 8).is_ok() && text("prompt", 128 * 8 + 1, 8).is_err());
        assert!(stops(&["a".to_owned()]).is_ok());
        let code = |list: &[String]| stops(list).map_err(|error| error.code());
        assert_eq!(code(&[String::new()]), Err("invalid_value"));
        assert_eq!(code(&vec!["a".to_owned(); 17]), Err("too_many_stops"));
        assert_eq!(code(&["a".repeat(1025)]), Err("stop_too_long"));
    }
}
