//! What the values of flags may be: each parser's error says what is right.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};

use crate::args::Device;

/// The most tokens to generate; `None` goes on until the model stops or the context ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLimit(pub(crate) Option<usize>);

/// A number of tokens, or -1 for no limit.
pub(crate) fn token_limit(text: &str) -> Result<TokenLimit, String> {
    if text == "-1" {
        return Ok(TokenLimit(None));
    }
    match text.parse() {
        Ok(n) if n > 0 => Ok(TokenLimit(Some(n))),
        _ => Err("a number of tokens from 1 up is wanted, or -1 for no limit".into()),
    }
}

/// Reads a place that can run a model, and tells shells the usual ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceParser;

impl TypedValueParser for DeviceParser {
    type Value = Device;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Device, clap::Error> {
        let parse: fn(&str) -> Result<Device, String> = device;
        TypedValueParser::parse_ref(&parse, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = ["cpu", "cuda", "emulated", "reference"];
        Some(Box::new(names.into_iter().map(PossibleValue::new)))
    }
}

fn device(text: &str) -> Result<Device, String> {
    let gpu = |number: &str| number.parse().ok().map(Device::Cuda);
    let known = match text {
        "cpu" => Some(Device::Cpu),
        "cuda" => Some(Device::Cuda(0)),
        "emulated" => Some(Device::Emulated),
        "reference" => Some(Device::Reference),
        _ => text.strip_prefix("cuda:").and_then(gpu),
    };
    let wanted = || "cpu, cuda, cuda:N, emulated or reference is wanted".to_owned();
    known.ok_or_else(wanted)
}

/// A number of things, none included.
pub(crate) fn whole(text: &str) -> Result<usize, String> {
    let wanted = |_| "a whole number from 0 up is wanted".to_owned();
    text.parse().map_err(wanted)
}

/// A number of things that must not be none.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    within(text, 1..=u32::MAX as usize)
}

/// Threads: more than any machine has only wait for each other.
pub(crate) fn thread_count(text: &str) -> Result<usize, String> {
    within(text, 1..=1024)
}

/// Positions of a context, within what the engine takes.
pub(crate) fn context_size(text: &str) -> Result<usize, String> {
    within(text, 1..=1 << 24)
}

/// Tokens of one pass, within what the engine takes.
pub(crate) fn chunk_size(text: &str) -> Result<usize, String> {
    within(text, 1..=1 << 16)
}

/// Sequences held at once, within what the engine takes.
pub(crate) fn sequence_count(text: &str) -> Result<usize, String> {
    within(text, 1..=1 << 16)
}

/// The seed of a request.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    let wanted = |_| format!("a whole number from 0 to {} is wanted", u64::MAX);
    text.parse().map_err(wanted)
}

/// A token id.
pub(crate) fn token_id(text: &str) -> Result<u32, String> {
    let wanted = |_| "token ids separated by commas are wanted, such as 1,2,3".to_owned();
    text.trim().parse().map_err(wanted)
}

/// Any number but the infinities.
pub(crate) fn finite(text: &str) -> Result<f32, String> {
    number(text, |x| x.is_finite(), "a finite number is wanted")
}

/// A finite number from 0 up.
pub(crate) fn non_negative(text: &str) -> Result<f32, String> {
    let fits = |x: f32| x.is_finite() && x >= 0.0;
    number(text, fits, "a number from 0 up is wanted")
}

/// A finite number above 0.
pub(crate) fn above_zero(text: &str) -> Result<f32, String> {
    let fits = |x: f32| x.is_finite() && x > 0.0;
    number(text, fits, "a number above 0 is wanted")
}

/// A share of a whole.
pub(crate) fn fraction(text: &str) -> Result<f32, String> {
    let fits = |x| (0.0..=1.0).contains(&x);
    number(text, fits, "a number from 0 to 1 is wanted")
}

/// `ID=BIAS`.
pub(crate) fn bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.split_once('=').and_then(|(id, bias)| {
        let bias: f32 = bias.parse().ok()?;
        let usable = bias.is_finite() || bias == f32::NEG_INFINITY;
        Some((id.parse().ok()?, usable.then_some(bias)?))
    });
    parsed.ok_or_else(|| {
        "a token id and what to add to its score are wanted, such as 42=-1.5 or 42=-inf".into()
    })
}

/// A time in seconds; 0 is none.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wanted = || "a number of seconds from 0 up is wanted".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wanted())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wanted())
}

/// A text that ends the completion.
pub(crate) fn stop_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty text would stop before the first token".into());
    }
    Ok(text.to_owned())
}

fn within(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(format!(
            "a number from {} to {} is wanted",
            range.start(),
            range.end()
        )),
    }
}

fn number(text: &str, fits: impl Fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(x) if fits(x) => Ok(x),
        _ => Err(wanted.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_range_are_refused() {
        assert_eq!(token_limit("-1"), Ok(TokenLimit(None)));
        assert_eq!(token_limit("7"), Ok(TokenLimit(Some(7))));
        assert!(token_limit("0").is_err() && token_limit("-2").is_err());
        assert!(positive("0").is_err() && positive("4294967296").is_err());
        assert!(thread_count("1025").is_err() && whole("-1").is_err());
        assert_eq!(context_size("16777216"), Ok(1 << 24));
        assert!(context_size("16777217").is_err() && chunk_size("65537").is_err());
        assert!(fraction("1.01").is_err() && fraction("NaN").is_err());
        assert!(non_negative("inf").is_err() && above_zero("0").is_err());
        assert_eq!(bias("42=-inf"), Ok((42, f32::NEG_INFINITY)));
        assert!(bias("42=NaN").is_err() && bias("42").is_err() && bias("-1=2").is_err());
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        assert!(stop_text("").is_err());
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("-1").is_err() && seconds("NaN").is_err() && seconds("1e300").is_err());
    }
}
