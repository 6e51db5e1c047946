//! Philox4x32-10, a counter-based random generator: the noise of a position needs no state.
//!
//! Ten rounds of `(x0, x1, x2, x3) ← (hi(m1·x2) ⊕ x1 ⊕ k0, lo(m1·x2), hi(m0·x0) ⊕ x3 ⊕ k1,
//! lo(m0·x0))`, the key moving on by the Weyl constants in between (Salmon, Moraes, Dror and
//! Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four random words for a counter under a key.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut x = counter;
    let mut k = key;
    for _ in 0..ROUNDS {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(x[0]);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(x[2]);
        x = [
            (p1 >> 32) as u32 ^ x[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ x[3] ^ k[1],
            p0 as u32,
        ];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    x
}

/// 64 random bits for the token at `position` of a request with `seed`.
///
/// The counter is `(position, 0, 0)`, low word first; its upper half is left to other uses of
/// noise at the same position.
pub fn noise(seed: u64, position: u64) -> u64 {
    let counter = [position as u32, (position >> 32) as u32, 0, 0];
    let out = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    u64::from(out[0]) | u64::from(out[1]) << 32
}
