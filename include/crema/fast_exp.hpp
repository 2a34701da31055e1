// Floor 0. The exponential as straight arithmetic, so that a compiler can do several at once. Anyone may call
// it.
#pragma once

#include <cmath>
#include <cstdint>

#include "crema/types.hpp"

namespace crema {

CREMA_HD inline double FastExp(double x) {
  return exp(x);
}

// e^x within 2e-7 of its value for x in [-87, 88]; 0 below, and the value at 88 above. x = n ln 2 + r with
// |r| <= ln 2 / 2, and e^r by its Taylor polynomial of degree 7, whose remainder is below 5.2e-9.
CREMA_HD inline float FastExp(float x) {
  constexpr float kHigh = 0.693359375f, kLow = -2.12194440e-4f;  // ln 2 = high + low, high of few bits
  const float y = x > 88.f ? 88.f : x < -87.f ? -87.f : x;
  const float n = std::floor(y * 1.44269504f + 0.5f);
  const float r = (y - n * kHigh) - n * kLow;
  float e = 1.f / 5040;
  e = e * r + 1.f / 720;
  e = e * r + 1.f / 120;
  e = e * r + 1.f / 24;
  e = e * r + 1.f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.f;
  e = e * r + 1.f;
  const float power = __builtin_bit_cast(float, (static_cast<int32_t>(n) + 127) << 23);
  return x < -87.f ? 0.f : e * power;
}

}  // namespace crema
