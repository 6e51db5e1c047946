// Philox4x32-10, a counter-based random generator: the twin of ops/sample/philox.rs.
#pragma once

#include "device/kernel.cuh"

struct PhiloxWords {
    unsigned word[4];
};

// Four random words for a counter under a key.
DEVICE PhiloxWords philox4x32(PhiloxWords x, unsigned key0, unsigned key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, x.word[0]), low0 = 0xD2511F53u * x.word[0];
        const unsigned high1 = __umulhi(0xCD9E8D57u, x.word[2]), low1 = 0xCD9E8D57u * x.word[2];
        x = {{high1 ^ x.word[1] ^ key0, low1, high0 ^ x.word[3] ^ key1, low0}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return x;
}

// 64 random bits for the token at `position` of a request with `seed`.
DEVICE unsigned long long philox_noise(unsigned long long seed, unsigned long long position) {
    const PhiloxWords counter = {
        {static_cast<unsigned>(position), static_cast<unsigned>(position >> 32), 0, 0}};
    const PhiloxWords out = philox4x32(counter, static_cast<unsigned>(seed),
                                       static_cast<unsigned>(seed >> 32));
    return out.word[0] | static_cast<unsigned long long>(out.word[1]) << 32;
}
