//! What the machine is: processor, memory, and how fast it reads.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::bail;
use onward_kernels::cpu::Pool;
use onward_kernels::cpu::memory::Bytes;

/// Larger than any cache, so that reading it reads memory.
const REGION_BYTES: usize = 512 << 20;
/// Where memory is short.
const SMALL_REGION_BYTES: usize = 256 << 20;
/// How long to measure.
const BUDGET: Duration = Duration::from_millis(500);

/// The processor's name, where the system tells.
pub(crate) fn processor() -> Option<String> {
    field("/proc/cpuinfo", "model name")
}

/// Bytes of main memory: all, and what is free for programs.
pub(crate) fn memory() -> Option<(u64, u64)> {
    let bytes = |name| {
        let value = field("/proc/meminfo", name)?;
        let kilobytes: u64 = value.split_whitespace().next()?.parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    Some((bytes("MemTotal")?, bytes("MemAvailable")?))
}

/// The first value of `name: value` in a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The vector extensions that matter here and that this processor has.
pub(crate) fn features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt)*) => {
            [$(($name, is_x86_feature_detected!($name))),*]
        };
    }
    #[cfg(target_arch = "x86_64")]
    let features = present!(
        "sse4.2" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512dq"
        "avx512vl" "avx512vnni" "avx512vbmi" "avx512bf16" "avx512fp16"
    );
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    features
        .into_iter()
        .filter_map(|(name, present)| present.then_some(name))
        .collect()
}

/// Bytes a second that `n_threads` read from memory together: the best of several passes over
/// a region beyond every cache. Decoding reads every weight once a token, so this over the
/// model's size bounds the tokens a second.
///
/// # Errors
/// If the memory cannot be spared or threads cannot be started.
pub(crate) fn read_bandwidth(n_threads: usize) -> anyhow::Result<f64> {
    let available = memory().map_or(u64::MAX, |(_, available)| available);
    let n_bytes = [REGION_BYTES, SMALL_REGION_BYTES]
        .into_iter()
        .find(|&n| 2 * n as u64 <= available);
    let Some(n_bytes) = n_bytes else {
        bail!("too little memory is free to measure how fast it is read");
    };
    let pool = Pool::new(n_threads)?;
    let mut region = Bytes::zeroed(n_bytes, "the region that is read")?;
    // Pages that were never written are all one page of zeros, which sits in the cache.
    region.fill(1);
    let region = &*region;

    let started = Instant::now();
    let mut best = f64::INFINITY;
    while started.elapsed() < BUDGET {
        let pass = Instant::now();
        pool.split(n_bytes, 4096, |range| {
            black_box(sum(&region[range]));
        });
        best = best.min(pass.elapsed().as_secs_f64());
    }
    Ok(n_bytes as f64 / best)
}

/// Touches every byte, several cache lines at a time.
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 32];
    let (blocks, _) = bytes.as_chunks::<256>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |a, &b| a.wrapping_add(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_reads_every_whole_block() {
        let mut bytes = vec![0; 1024];
        for index in (0..1024).step_by(8) {
            bytes[index] = 1;
        }
        assert_eq!(sum(&bytes), 128);
    }
}
