// A test tool. The rounding of TF32, for the stand-ins of cuBLAS and cuDNN.
#pragma once

#include <bit>
#include <cstdint>

namespace rehearsal {

// A float with the ten bits after the point that TF32 keeps.
inline float ToTf32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return value - value == 0 ? std::bit_cast<float>((bits + 0x1000) & ~uint32_t{0x1FFF}) : value;
}

}  // namespace rehearsal
