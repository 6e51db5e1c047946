//! The numbers that decide a draw: noise, exponential, shares, keys and sums.

use proptest::prelude::*;

use super::*;
use crate::ops::sample::fixed::{WEIGHT_BITS, WEIGHT_ONE, point_in, share_of, weight};
use crate::ops::sample::philox::philox4x32;
use crate::ops::sample::select::order_key;

#[test]
fn philox_gives_the_known_answers() {
    // philox4x32-10 in the kat_vectors file of the Random123 library.
    let answers = [
        (
            [0; 4],
            [0; 2],
            [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
        ),
        (
            [u32::MAX; 4],
            [u32::MAX; 2],
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
        ),
        (
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        ),
    ];
    for (counter, key, expected) in answers {
        assert_eq!(philox4x32(counter, key), expected);
    }
}

#[test]
fn noise_depends_on_every_bit_of_seed_and_position() {
    let first = noise(0, 0);
    for bit in 0..64 {
        assert_ne!(noise(1 << bit, 0), first);
        assert_ne!(noise(0, 1 << bit), first);
        assert_ne!(noise(1 << bit, 0), noise(0, 1 << bit));
    }
}

/// Every 61st f32 from −2^-26, where exp rounds to 1, down to −32.
fn exponents() -> impl Iterator<Item = f32> {
    let (small, large) = ((-2f32.powi(-26)).to_bits(), (-32f32).to_bits());
    (small..large).step_by(61).map(f32::from_bits)
}

#[test]
fn exp_is_within_one_ulp() {
    let mut worst = 0f64;
    for x in exponents() {
        let exact = f64::from(x).exp();
        let error = (weight(x) as f64 / WEIGHT_ONE as f64 - exact).abs();
        // The weight holds the f32 exactly down to 2^-17; below, half a unit is added.
        let ulp = 2f64.powi(exact.log2().floor() as i32 - 23);
        let rounding = if exact >= 2f64.powi(-17) {
            0.0
        } else {
            0.5 / WEIGHT_ONE as f64
        };
        worst = worst.max((error - rounding) / ulp);
    }
    assert!(worst < 1.0, "{worst} ulp");
}

#[test]
fn weights_at_the_ends_of_the_range() {
    assert_eq!(weight(0.0), WEIGHT_ONE);
    assert_eq!(weight(-0.0), WEIGHT_ONE);
    assert_eq!(weight(f32::NEG_INFINITY), 0);
    assert_eq!(weight(f32::MIN), 0);
    let half_a_unit = -f64::from(WEIGHT_BITS + 1) * 2f64.ln();
    assert_eq!(weight(half_a_unit as f32 + 0.001), 1);
    assert_eq!(weight(half_a_unit as f32 - 0.001), 0);
    assert!(exponents().all(|x| weight(x) <= WEIGHT_ONE));
}

#[test]
fn tiny_shares_take_at_least_one_unit() {
    for share in [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1e-30] {
        assert_eq!(share_of(share, WEIGHT_ONE), 1);
    }
    assert_eq!(share_of(0.5, 7), 4);
    assert_eq!(share_of(1.0, u64::MAX >> 4), u64::MAX >> 4);
}

proptest! {
    #[test]
    fn share_is_the_exact_ceiling(share in 1e-9f32..1.0, total in 1u64..1 << 61) {
        // share = numerator / 2^exponent, found by exact doublings.
        let (mut numerator, mut exponent) = (f64::from(share), 0);
        while numerator.fract() != 0.0 {
            numerator *= 2.0;
            exponent += 1;
        }
        let product = numerator as u128 * u128::from(total);
        let reached = u128::from(share_of(share, total));
        prop_assert!(reached << exponent >= product);
        prop_assert!((reached - 1) << exponent < product);
    }

    #[test]
    fn points_lie_inside(total in 1u64..1 << 61, noise: u64) {
        prop_assert!(point_in(total, noise) < total);
        prop_assert_eq!(point_in(total, u64::MAX), total - 1);
        prop_assert_eq!(point_in(total, 0), 0);
    }

    #[test]
    fn keys_order_as_logits_do(a: f32, b: f32) {
        prop_assume!(!a.is_nan() && !b.is_nan());
        prop_assert_eq!(order_key(a).cmp(&order_key(b)), a.partial_cmp(&b).unwrap());
    }

    #[test]
    fn mass_is_the_same_however_it_is_split(
        stream: u64,
        n_vocab in 1usize..2000,
        cut in 0usize..2000,
        scale in 0.1f32..4.0,
    ) {
        let row = normal_row(stream, n_vocab, 5.0);
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let mut masses = Masses::default();
        masses.read(Isa::detect(), &row, max, scale);
        let one_by_one: u64 = row.iter().rev().map(|&l| weight((l - max) * scale)).sum();
        prop_assert_eq!(masses.total, one_by_one);
        let (left, right) = row.split_at(cut.min(n_vocab));
        let mut parts = [Masses::default(), Masses::default()];
        parts[0].read(Isa::Portable, left, max, scale);
        parts[1].read(Isa::detect(), right, max, scale);
        prop_assert_eq!(masses.total, parts[0].total + parts[1].total);
    }
}

#[test]
fn keys_hold_both_zeros_equal() {
    assert_eq!(order_key(-0.0), order_key(0.0));
    assert!(order_key(f32::NEG_INFINITY) < order_key(f32::MIN));
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut row = normal_row(7, 262_144 + 77, 8.0);
    row[12345] = f32::NEG_INFINITY;
    let mut all = Isa::available().map(|isa| {
        let mut summary = Summary::default();
        summary.read(isa, &row).unwrap();
        let mut masses = Masses::default();
        masses.read(isa, &row, summary.max, 1.25);
        let mut weights = vec![0; row.len()];
        cpu::weights(isa, &row, summary.max, 0.7, &mut weights);
        (summary.maxima, masses.blocks, weights)
    });
    let portable = all.next().unwrap();
    assert!(all.all(|other| other == portable));
}
