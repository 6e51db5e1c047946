// mma and ldmatrix: what the 32 lanes of a warp do together. The lane maps are told in
// device/ptx.cuh.
#include "matrix.h"

#include "counters.h"

#include <cstring>

namespace emulator {
namespace {

float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Bit tricks instead of a conversion instruction, so that loops over them become vector code.
struct Bf16 {
    static float widen(uint32_t half) { return bits_to_float(half << 16); }
};

struct F16 {
    static float widen(uint32_t half) {
        const uint32_t magnitude = (half & 0x7fff) << 13;
        const uint32_t sign = (half & 0x8000) << 16;
        // The exponent is 112 short; a full one stands for infinity and NaN.
        const float scaled = bits_to_float(magnitude) * 0x1p112f;
        uint32_t bits;
        memcpy(&bits, &scaled, sizeof bits);
        bits = magnitude >= 0x7c00u << 13 ? magnitude | 0x7f800000 : bits;
        return bits_to_float(bits | sign);
    }
};

// A row of eight values, for the host's vector unit.
typedef float Row __attribute__((vector_size(32)));

// Products are exact in f32; they are added to the accumulator one after another, in the order
// of k. Tensor cores add in groups and cut off other bits: results agree within rounding.
// Because the products are exact, fusing them with the additions changes nothing but the time.
template <typename Half>
__attribute__((optimize("O3", "fp-contract=fast"))) void multiply(void **arguments, uint32_t) {
    uint32_t a_bits[16][8], b_bits[8][8];
    alignas(32) float d[16][8];
    for (unsigned lane = 0; lane < LANES; ++lane) {
        const auto &fragment = *static_cast<const Fragments *>(arguments[lane]);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned i = 0; i < 4; ++i) {
            a_bits[g + 8 * (i & 1)][t + 4 * (i >> 1)] = fragment.a[i];
        }
        b_bits[t][g] = fragment.b[0];
        b_bits[t + 4][g] = fragment.b[1];
        memcpy(&d[g][2 * t], fragment.d, 8);
        memcpy(&d[g + 8][2 * t], fragment.d + 2, 8);
    }
    alignas(32) float b[16][8];
    for (unsigned pair = 0; pair < 8; ++pair) {
        for (unsigned column = 0; column < 8; ++column) {
            b[2 * pair][column] = Half::widen(b_bits[pair][column] & 0xffff);
            b[2 * pair + 1][column] = Half::widen(b_bits[pair][column] >> 16);
        }
    }
    for (unsigned row = 0; row < 16; ++row) {
        float a[2][8];
        for (unsigned pair = 0; pair < 8; ++pair) {
            a[0][pair] = Half::widen(a_bits[row][pair] & 0xffff);
            a[1][pair] = Half::widen(a_bits[row][pair] >> 16);
        }
        auto sum = *reinterpret_cast<const Row *>(d[row]);
        for (unsigned k = 0; k < 16; ++k) {
            sum += a[k % 2][k / 2] * *reinterpret_cast<const Row *>(b[k]);
        }
        *reinterpret_cast<Row *>(d[row]) = sum;
    }
    for (unsigned lane = 0; lane < LANES; ++lane) {
        const auto &fragment = *static_cast<const Fragments *>(arguments[lane]);
        const unsigned g = lane / 4, t = lane % 4;
        memcpy(fragment.d, &d[g][2 * t], 8);
        memcpy(fragment.d + 2, &d[g + 8][2 * t], 8);
    }
}

template <unsigned N_MATRICES, bool TRANSPOSED>
void load_matrices(void **arguments, uint32_t) {
    for (unsigned i = 0; i < N_MATRICES; ++i) {
        uint16_t matrix[8][8];
        for (unsigned row = 0; row < 8; ++row) {
            const auto &lane = *static_cast<const Matrices *>(arguments[i * 8 + row]);
            const char *source = shared_pointer(lane.address, 16, 16, "ldmatrix");
            if (COUNTED) {
                Thread &reader = *(current - current->lane + i * 8 + row);
                note_access(reader, source, 16, Access::MatrixLoad, current->site);
            }
            memcpy(matrix[row], source, 16);
        }
        for (unsigned lane = 0; lane < LANES; ++lane) {
            const unsigned g = lane / 4, t = lane % 4 * 2;
            const uint32_t low = TRANSPOSED ? matrix[t][g] : matrix[g][t];
            const uint32_t high = TRANSPOSED ? matrix[t + 1][g] : matrix[g][t + 1];
            static_cast<const Matrices *>(arguments[lane])->registers[i] = low | high << 16;
        }
    }
}

} // namespace

const Operation MULTIPLY_BF16{"mma_bf16", Class::Mma, multiply<Bf16>};
const Operation MULTIPLY_F16{"mma_f16", Class::Mma, multiply<F16>};
const Operation LOAD_MATRICES[3][2] = {
    {{"ldmatrix_x1", Class::Ldmatrix, load_matrices<1, false>},
     {"ldmatrix_x1_trans", Class::Ldmatrix, load_matrices<1, true>}},
    {{"ldmatrix_x2", Class::Ldmatrix, load_matrices<2, false>},
     {"ldmatrix_x2_trans", Class::Ldmatrix, load_matrices<2, true>}},
    {{"ldmatrix_x4", Class::Ldmatrix, load_matrices<4, false>},
     {"ldmatrix_x4_trans", Class::Ldmatrix, load_matrices<4, true>}},
};

} // namespace emulator
