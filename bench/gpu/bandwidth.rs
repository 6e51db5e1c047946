//! The ceilings: copying and reading memory.

use anyhow::{Result, ensure};
use onward_kernels::cuda::bandwidth::{Bandwidth, Motion};
use serde_json::json;

use crate::Bench;
use crate::record::time;
use onward_kernels::ops::registry::Random;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let cuda = bench.open()?;
    // Larger than any cache by far, and with both copies a small part of the memory.
    let n_words = bench.pick(1 << 28, 1 << 12);
    let mut random = Random::new(1);
    let words: Vec<u32> = (0..n_words).map(|_| random.next() as u32).collect();
    for (name, motion) in [("copy", Motion::Copy), ("read", Motion::Read)] {
        let mut memory = Bandwidth::new(&cuda, motion, &words)?;
        let (spread, _) = time(&cuda, bench.pick(20, 2), 1, |_| Ok(memory.launch(&cuda)?))?;
        let result = memory.result(&cuda)?;
        let is_right = match motion {
            Motion::Copy => result == words,
            Motion::Read => result == [words.iter().fold(0, |all, word| all ^ word)],
        };
        ensure!(is_right, "the {name} kernel left something out");
        let what = json!({ "name": name, "bytes": memory.bytes() });
        spread.say("bandwidth", "us", &what)?;
    }
    Ok(())
}
