// Floor 0. float16: IEEE 754 half precision, 5 bits of exponent and 10 of fraction, for storage. And the
// types that layers compute in where their blobs have 16 bits. Anyone may use it.
#pragma once

#include "crema/bfloat16.hpp"

namespace crema {

struct Float16 {
  uint16_t bits = 0;

  Float16() = default;
  // The nearest one, ties to even; infinite from 65520 on; NaN stays NaN. Without a condition, so that loops
  // of it become vector code.
  CREMA_HD explicit Float16(float x) {
    const uint32_t wide = __builtin_bit_cast(uint32_t, x), magnitude = wide & 0x7FFFFFFFu;
    // Rounded to 10 bits of fraction, the exponent's offset changed from 127 to 15.
    const uint32_t normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
    // Below 2^-14 all are multiples of 2^-24, which is the last bit of a float between 1/2 and 1.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    const uint32_t small = __builtin_bit_cast(uint32_t, shifted) - 0x3F000000u;
    uint32_t half = magnitude < 0x38800000u ? small : normal;
    half = magnitude >= 0x477FF000u ? 0x7C00u : half;
    half = magnitude > 0x7F800000u ? 0x7E00u : half;
    bits = static_cast<uint16_t>(half | (wide >> 16 & 0x8000u));
  }
  CREMA_HD explicit Float16(double x) : Float16(static_cast<float>(x)) {}
  CREMA_HD explicit operator float() const {
    // Read as a float, its exponent's offset is short of 112.
    const float value = __builtin_bit_cast(float, static_cast<uint32_t>(bits & 0x7FFFu) << 13) * 0x1p112f;
    const uint32_t special = value >= 65536.0f ? 0x7F800000u : 0u;  // infinite or NaN
    return __builtin_bit_cast(
        float, __builtin_bit_cast(uint32_t, value) | special | static_cast<uint32_t>(bits & 0x8000u) << 16);
  }
  CREMA_HD explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

template <>
constexpr DType DTypeOf<Float16>() {
  return DType::kF16;
}

constexpr bool Has16Bits(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16;
}

// The type of arithmetic on values stored as `stored`, and of the weights that go with them.
constexpr DType RealOf(DType stored) {
  return Has16Bits(stored) ? DType::kF32 : stored;
}

// Calls f.operator()<Stored>() for a type of 16 bits.
template <class F>
void For16Bits(DType stored, F&& f) {
  if (stored == DType::kBF16) {
    f.template operator()<BFloat16>();
  } else if (stored == DType::kF16) {
    f.template operator()<Float16>();
  } else {
    Fail("element type ", NameOf(stored), " found where bf16 or f16 was expected");
  }
}

// Calls f.operator()<T, Stored>() for the values of a blob: the type of arithmetic, RealOf(stored), and
// theirs.
template <class F>
void ForBlob(DType stored, F&& f) {
  if (Has16Bits(stored)) {
    For16Bits(stored, [&]<class Stored>() { f.template operator()<float, Stored>(); });
  } else {
    ForReal(stored, [&]<class T>() { f.template operator()<T, T>(); });
  }
}

}  // namespace crema
