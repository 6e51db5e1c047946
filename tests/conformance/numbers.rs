//! Random words, probability mass and sums: what kernels share beside instructions.

use onward_kernels::ops::sample::fixed::{point_in, share_of, weight};
use onward_kernels::ops::sample::philox::noise as philox_noise;

use crate::{noise, run};

fn long_words(words: &[u32]) -> Vec<u64> {
    let long = |pair: &[u32]| u64::from(pair[0]) | u64::from(pair[1]) << 32;
    words.chunks(2).map(long).collect()
}

/// The vectors of philox4x32-10 in the kat_vectors file of the Random123 library.
pub(crate) fn philox_gives_the_known_answers() {
    let known: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
        (
            [0; 4],
            [0; 2],
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        ),
        (
            [!0; 4],
            [!0; 2],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        ),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    let (mut counters, mut keys) = (noise(1, 128), noise(2, 64));
    for (i, (counter, key, _)) in known.iter().enumerate() {
        counters[4 * i..][..4].copy_from_slice(counter);
        keys[2 * i..][..2].copy_from_slice(key);
    }
    let out = run("conformance_philox", [&counters, &keys, &[]]);
    for (i, out) in out.chunks(6).enumerate() {
        if let Some((_, _, answer)) = known.get(i) {
            assert_eq!(out[..4], answer[..]);
        }
        let (seed, position) = (long_words(&keys)[i], long_words(&counters)[2 * i]);
        assert_eq!(long_words(out)[2], philox_noise(seed, position));
    }
}

/// Scaled logits from 0 down to where weights vanish, and beyond; the ends of each binade of the
/// polynomial among them. The CPU's weights are held to an exact exponential elsewhere.
pub(crate) fn weights_and_keys_have_the_bits_of_the_cpu() {
    let ends = [
        0.0,
        -0.0,
        -28.43,
        -28.42,
        -32.0,
        -33.0,
        f32::NEG_INFINITY,
        -1e-30,
    ];
    let near_binade = |i: i32| -std::f32::consts::LN_2 * (i as f32 / 2.0);
    let steps = (0..2000).map(|i| -31.0 * i as f32 / 2000.0);
    let binades = (0..100).map(near_binade);
    // Many: one operation more or less fused shows in one of thousands.
    let random = noise(3, 60_000).into_iter();
    let random = random.map(|word| -32.0 * (word >> 8) as f32 / (1 << 24) as f32);
    let mut xs: Vec<f32> = ends
        .into_iter()
        .chain(steps)
        .chain(binades)
        .chain(random)
        .collect();
    xs.resize(xs.len().next_multiple_of(128), -1.0);
    for xs in xs.chunks(128) {
        let bits: Vec<u32> = xs.iter().map(|x| x.to_bits()).collect();
        let out = run("conformance_weight", [&bits, &[], &[]]);
        for (&x, out) in xs.iter().zip(out.chunks(5)) {
            let found = long_words(&out[..2])[0];
            assert_eq!(found, weight(x), "weight of {x}");
            // 16 bits less, and rounded to them where the weight is a whole number.
            let scaled = f32::from_bits(out[2]);
            if x > -11.0 {
                assert_eq!(
                    (scaled * 65536.0).round_ties_even() as u64,
                    found,
                    "exp of {x}"
                );
            }
            assert_eq!(
                f32::from_bits(out[4]).to_bits(),
                (x + 0.0).to_bits(),
                "key of {x}"
            );
            let inverted = out[4] ^ if x + 0.0 < 0.0 { !0 } else { 1 << 31 };
            assert_eq!(out[3], inverted, "key of {x}");
        }
    }
}

/// Shares of every exponent, and those that fall on a whole number and beside it.
pub(crate) fn shares_have_the_bits_of_the_cpu() {
    let edge = [
        0.0,
        1.0,
        0.5,
        0.25,
        f32::MIN_POSITIVE,
        1e-45,
        1.0 - f32::EPSILON / 2.0,
        1e-9,
    ];
    let of_exponent = |i: u32| f32::from_bits((i + 7) << 23 | 0x12_3456);
    let mut shares: Vec<u32> = edge.iter().map(|share: &f32| share.to_bits()).collect();
    shares.extend((0..120).map(|i| of_exponent(i).to_bits()));
    for seed in 4..12 {
        // Totals below 2^60, powers of two among them.
        let mut totals = noise(seed, 512);
        for (i, words) in totals.chunks_mut(4).enumerate() {
            words[1] >>= 4;
            if i % 4 == 0 {
                (words[0], words[1]) = (0, 1 << (i / 4 % 28));
            }
        }
        let out = run("conformance_share", [&shares, &totals, &[]]);
        for (i, out) in out.chunks(4).enumerate() {
            let (share, words) = (f32::from_bits(shares[i]), long_words(&totals[4 * i..][..4]));
            let expected = vec![share_of(share, words[0]), point_in(words[0], words[1])];
            assert_eq!(long_words(out), expected, "{share:e} of {}", words[0]);
        }
        shares.rotate_left(17);
    }
}

/// Whole numbers, whose sums are exact in any order.
pub(crate) fn sums_are_those_of_their_terms() {
    let numbers: Vec<f32> = noise(20, 128)
        .iter()
        .map(|word| (word >> 16) as f32)
        .collect();
    let bits: Vec<u32> = numbers.iter().map(|number| number.to_bits()).collect();
    let mut words = noise(21, 256);
    // 128 of them stay below 2^64.
    words
        .iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|word| *word >>= 7);
    let masses = long_words(&words);
    let out = run("conformance_sums", [&bits, &words, &[]]);
    for (thread, out) in out.chunks(6).enumerate() {
        let warp = thread / 32 * 32;
        let warp_sum: f32 = numbers[warp..warp + 32].iter().sum();
        assert_eq!(f32::from_bits(out[0]), warp_sum);
        assert_eq!(f32::from_bits(out[1]), numbers.iter().sum::<f32>());
        let (before, total): (u64, u64) = (masses[..thread].iter().sum(), masses.iter().sum());
        assert_eq!(long_words(&out[2..]), [before, total]);
    }
}
