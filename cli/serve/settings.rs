//! From the fields that all completions have to what the engine is asked.

use onward_engine::Request;
use onward_kernels::ops::sample::SamplingParams;
use serde_json::{Map, Value};

use super::app::{App, Loaded};
use super::protocol::error::ApiError;
use super::protocol::generation::GenerationFields;
use super::{constraint, limits};
use crate::sampling::random_seed;

/// How a request is to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Completions for each prompt.
    pub(crate) n: usize,
    /// Whether they are streamed.
    pub(crate) stream: bool,
    /// Whether the stream ends with the usage.
    pub(crate) include_usage: bool,
    /// The request, without its prompt.
    pub(crate) request: Request,
}

impl Settings {
    /// Checks the fields.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn new(
        fields: &GenerationFields,
        app: &App,
        loaded: &Loaded,
    ) -> Result<Self, ApiError> {
        if fields
            .best_of
            .is_some_and(|best| best != fields.n.unwrap_or(1))
        {
            let message = "best_of is not supported: ask for n and choose by their logprobs";
            return Err(ApiError::limit("unsupported_parameter", "best_of", message));
        }
        let n = fields.n.unwrap_or(1);
        limits::at_most(
            "too_many_choices",
            "n",
            "completions",
            n,
            limits::MAX_CHOICES,
        )?;
        if n == 0 {
            return Err(ApiError::field("n", "n must be at least 1"));
        }
        let stop: Vec<String> = fields.stop.clone().map(Vec::from).unwrap_or_default();
        limits::stops(&stop)?;
        let request = Request {
            max_tokens: fields.max_completion_tokens.or(fields.max_tokens),
            sampling: sampling(fields, loaded)?,
            stop,
            ignore_eos: fields.ignore_eos.unwrap_or(false),
            constraint: constraint::read(fields)?,
            timeout: app.options.timeout,
            ..Request::new(Vec::new())
        };
        let options = fields.stream_options.unwrap_or_default();
        Ok(Self {
            n,
            stream: fields.stream.unwrap_or(false),
            include_usage: options.include_usage.unwrap_or(false),
            request,
        })
    }

    /// A request for each completion of each prompt. Completions of one prompt have seeds that
    /// follow each other.
    ///
    /// # Errors
    /// `too_many_choices`.
    pub(crate) fn requests(&self, prompts: &[Vec<u32>]) -> Result<Vec<Request>, ApiError> {
        let total = prompts.len().saturating_mul(self.n);
        let limit = limits::MAX_CHOICES;
        limits::at_most("too_many_choices", "prompt", "completions", total, limit)?;
        let numbered = |prompt: &Vec<u32>, number: usize| {
            let mut request = self.request.clone();
            request.prompt.clone_from(prompt);
            request.sampling.seed = request.sampling.seed.wrapping_add(number as u64);
            request
        };
        let of_prompt = |prompt| (0..self.n).map(move |number| numbered(prompt, number));
        Ok(prompts.iter().flat_map(of_prompt).collect())
    }
}

fn sampling(fields: &GenerationFields, loaded: &Loaded) -> Result<SamplingParams, ApiError> {
    let defaults = loaded.model().default_sampling.clone();
    let in_range = |name: &str, value: Option<f32>, low: f32, high: f32, default: f32| {
        let value = value.unwrap_or(default);
        if value.is_finite() && (low..=high).contains(&value) {
            return Ok(value);
        }
        let wanted = match high == f32::MAX {
            true if low == f32::MIN => "a finite number is wanted".to_owned(),
            true => format!("a finite number of at least {low} is wanted"),
            false => format!("a number from {low} to {high} is wanted"),
        };
        Err(ApiError::field(
            name,
            format!("{name} is {value}: {wanted}"),
        ))
    };
    let (least, most) = (f32::MIN, f32::MAX);
    let d = &defaults;
    Ok(SamplingParams {
        temperature: in_range("temperature", fields.temperature, 0.0, most, d.temperature)?,
        top_k: match fields.top_k {
            None => d.top_k,
            Some(-1) => 0,
            Some(k) => usize::try_from(k)
                .map_err(|_| ApiError::field("top_k", format!("top_k is {k}: 0 keeps all")))?,
        },
        top_p: in_range("top_p", fields.top_p, 0.0, 1.0, d.top_p)?,
        min_p: in_range("min_p", fields.min_p, 0.0, 1.0, d.min_p)?,
        repeat_penalty: in_range(
            "repetition_penalty",
            fields.repetition_penalty,
            f32::MIN_POSITIVE,
            most,
            d.repeat_penalty,
        )?,
        repeat_last_n: fields.repeat_last_n.unwrap_or(d.repeat_last_n),
        frequency_penalty: in_range(
            "frequency_penalty",
            fields.frequency_penalty,
            least,
            most,
            d.frequency_penalty,
        )?,
        presence_penalty: in_range(
            "presence_penalty",
            fields.presence_penalty,
            least,
            most,
            d.presence_penalty,
        )?,
        logit_bias: biases(fields.logit_bias.as_ref(), loaded.model().config.vocab_size)?,
        seed: seed(fields.seed)?,
    })
}

/// A given seed, one below zero by its two's complement; a random one for none and for -1.
fn seed(given: Option<i128>) -> Result<u64, ApiError> {
    match given {
        None | Some(-1) => Ok(random_seed()),
        Some(seed) => u64::try_from(seed)
            .or_else(|_| i64::try_from(seed).map(i64::cast_unsigned))
            .map_err(|_| ApiError::field("seed", "seed has more than 64 bits")),
    }
}

fn biases(given: Option<&Map<String, Value>>, vocab: usize) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    let (name, limit) = ("logit_bias", limits::MAX_LOGIT_BIAS);
    limits::at_most("logit_bias_too_large", name, "entries", given.len(), limit)?;
    let pair = |(id, bias): (&String, &Value)| {
        let bias = bias.as_f64().map(|bias| bias as f32);
        match (id.parse::<u32>(), bias) {
            (Ok(id), Some(bias)) if (id as usize) < vocab && bias.is_finite() => Ok((id, bias)),
            (Ok(_), Some(_)) => {
                let message = format!(
                    "logit_bias has token {id}, which is not among the {vocab} of the vocabulary, or whose bias is not finite"
                );
                Err(ApiError::field(name, message))
            }
            _ => {
                let message = "logit_bias must map token ids to numbers, such as {\"42\": -1.5}";
                Err(ApiError::invalid("invalid_type", message).naming(name))
            }
        }
    };
    given.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_64_bits_of_either_sign_are_taken() {
        assert_eq!(seed(Some(7)).ok(), Some(7));
        assert_eq!(seed(Some(i128::from(u64::MAX))).ok(), Some(u64::MAX));
        assert_eq!(seed(Some(-2)).ok(), Some(u64::MAX - 1));
        assert!(seed(Some(1 << 64)).is_err() && seed(Some(-(1 << 64))).is_err());
    }

    #[test]
    fn biases_are_numbers_by_ids_of_the_vocabulary() {
        let read = |text: &str| {
            let map = serde_json::from_str(text).expect("an object");
            biases(Some(&map), 10).map_err(|error| error.code())
        };
        assert_eq!(
            read(r#"{"3": -1, "4": 0.5}"#),
            Ok(vec![(3, -1.0), (4, 0.5)])
        );
        assert_eq!(read(r#"{"10": 1}"#), Err("invalid_value"));
        assert_eq!(read(r#"{"x": 1}"#), Err("invalid_type"));
        assert_eq!(read(r#"{"1": "1"}"#), Err("invalid_type"));
        let many: Vec<_> = (0..1025).map(|id| format!("\"{id}\": 0")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(read(&many), Err("logit_bias_too_large"));
    }
}
