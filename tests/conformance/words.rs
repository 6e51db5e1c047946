//! Barriers, packs and streaming loads.

use crate::{noise, run};

/// In each round a thread gets its partner's word plus the number of the round.
pub(crate) fn named_barriers_keep_pairs_of_warps_apart() {
    let words = noise(5, 128);
    let expected: Vec<u32> = (0..128)
        .map(|thread| {
            let n_rounds = if thread < 64 { 4u32 } else { 8 };
            (0..n_rounds).fold(0u32, |sum, round| {
                sum.wrapping_add(words[thread ^ 32].wrapping_add(round))
            })
        })
        .collect();
    assert_eq!(
        run("conformance_named_barrier", [&words, &[], &[]]),
        expected
    );
}

pub(crate) fn packs_and_streaming_loads_move_their_words() {
    let words = noise(6, 128);
    assert_eq!(
        run("conformance_opaque", [&words[..32], &[], &[]]),
        words[..32]
    );
    for (kernel, n_lanes, pack_words) in [
        ("conformance_pack_words_4", 4, 4),
        ("conformance_pack_words_2", 2, 2),
        ("conformance_pack_halves_8", 8, 4),
    ] {
        let words = &words[..32 * pack_words];
        let expected: Vec<u32> = words
            .chunks(pack_words)
            .flat_map(|pack| {
                let bytes: Vec<u8> = pack.iter().flat_map(|word| word.to_le_bytes()).collect();
                let lane_bytes = pack_words * 4 / n_lanes;
                let reversed: Vec<u8> = bytes.chunks(lane_bytes).rev().flatten().copied().collect();
                let word = |bytes: &[u8]| {
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |word, &b| word << 8 | u32::from(b))
                };
                reversed.chunks(4).map(word).collect::<Vec<u32>>()
            })
            .collect();
        assert_eq!(run(kernel, [words, &[], &[]]), expected, "{kernel}");
    }
    let expected: Vec<u32> = words
        .chunks(4)
        .flat_map(|words| [words[0], words[0], words[1], words[2], words[3]])
        .collect();
    assert_eq!(run("conformance_streaming", [&words, &[], &[]]), expected);
}

/// The value of an f16 that is finite.
fn half(bits: u32) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 31, f64::from(bits & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        _ => (1.0 + fraction) * 2f64.powi(exponent as i32 - 15),
    };
    if bits >> 15 & 1 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// The f16 that is nearest, the even one of two.
fn nearest_half(value: f64) -> f64 {
    let exponent = if value == 0.0 {
        0
    } else {
        value.abs().log2().floor() as i32
    };
    let step = 2f64.powi(exponent.max(-14) - 10);
    (value / step).round_ties_even() * step
}

pub(crate) fn pairs_of_halves_are_rounded_once() {
    // Magnitudes of 2^-7 to 2^8, so that f64 holds every product and sum exactly.
    let halves = |seed| -> Vec<u32> {
        let narrow = |half: u32| half & 0x83ff | (8 + (half >> 10 & 31) % 15) << 10;
        let words = noise(seed, 128).into_iter();
        words
            .map(|word| narrow(word & 0xffff) | narrow(word >> 16) << 16)
            .collect()
    };
    let (a, b, c) = (halves(7), halves(8), halves(9));
    let out = run("conformance_f16x2", [&a, &b, &c]);
    for (i, out) in out.chunks(2).enumerate() {
        for shift in [0, 16] {
            let value = |words: &[u32]| half(words[i] >> shift & 0xffff);
            let (a, b, c) = (value(&a), value(&b), value(&c));
            let found = |word: u32| half(word >> shift & 0xffff);
            assert_eq!(found(out[0]), nearest_half(a + b), "{a} + {b}");
            assert_eq!(found(out[1]), nearest_half(a * b + c), "{a} * {b} + {c}");
        }
    }
}

/// PTX ISA, "setmaxnreg": what registers hold stays.
pub(crate) fn registers_move_between_warpgroups() {
    let words: Vec<u32> = noise(6, 384).iter().map(|word| word >> 1).collect();
    let expected: Vec<u32> = (0..384).map(|at| words[at] + at as u32 / 128).collect();
    let found = run("conformance_move_registers", [&words, &[], &[]]);
    assert_eq!(found, expected);
}
