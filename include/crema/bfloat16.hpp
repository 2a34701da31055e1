// Floor 0. bfloat16: the upper half of a float32, for storage. Anyone may use it.
#pragma once

#include <cstdint>

#include "crema/types.hpp"

namespace crema {

struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  // The nearest one, ties to even; NaN stays NaN.
  CREMA_HD explicit BFloat16(float x) {
    const uint32_t wide = __builtin_bit_cast(uint32_t, x);
    const uint32_t rounded = wide + 0x7FFFu + ((wide >> 16) & 1u);
    bits = static_cast<uint16_t>((x == x ? rounded : wide | 0x400000u) >> 16);
  }
  CREMA_HD explicit BFloat16(double x) : BFloat16(static_cast<float>(x)) {}
  CREMA_HD explicit operator float() const {
    return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }
  CREMA_HD explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }

  // One of the two neighbours of a finite x, each with the probability that makes the mean x; `random` holds
  // 16 random bits.
  CREMA_HD static BFloat16 RoundStochastically(float x, uint32_t random) {
    BFloat16 result;
    result.bits = static_cast<uint16_t>((__builtin_bit_cast(uint32_t, x) + (random & 0xFFFFu)) >> 16);
    return result;
  }
};

template <>
constexpr DType DTypeOf<BFloat16>() {
  return DType::kBF16;
}

// *to = x, rounded where it has to be. For loops marked simd: GCC makes no vector code of one in whose own
// body an object such as BFloat16 is made.
template <class T, class Stored>
CREMA_HD inline void Store(T x, Stored* to) {
  *to = static_cast<Stored>(x);
}

// Calls f.operator()<T, Stored>(): the C++ type of arithmetic on values stored as `stored`, and theirs.
// Values stored as bfloat16 are worked on as `real`, others as what they are.
template <class F>
void ForStored(DType real, DType stored, F&& f) {
  if (stored == DType::kBF16) {
    ForReal(real, [&]<class T>() { f.template operator()<T, BFloat16>(); });
  } else {
    ForReal(stored, [&]<class T>() { f.template operator()<T, T>(); });
  }
}

}  // namespace crema
