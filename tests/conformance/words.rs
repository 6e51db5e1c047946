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
