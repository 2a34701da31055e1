// Floor 2. Counter-based random numbers (Philox 4x32-10, Salmon et al., "Parallel Random Numbers: As Easy as
// 1, 2, 3", SC 2011). A number is a pure function of (seed, what, iteration, index): equal on every device,
// for every number of ranks and threads, with nothing to save in a snapshot.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "crema/types.hpp"

namespace crema {

// A 64-bit mix of two values (splitmix64's finaliser over both).
CREMA_HD inline uint64_t MixBits(uint64_t a, uint64_t b) {
  uint64_t x = a + 0x9E3779B97F4A7C15ull * (b + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Key of a name, such as "dropout/drop1" (FNV-1a).
constexpr uint64_t NameKey(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

// One stream of random numbers, addressed by index.
struct Philox {
  uint64_t key = 0;  // seed and what it is for
  uint64_t iteration = 0;

  struct Words {
    uint32_t w[4];
  };

  CREMA_HD Words At(uint64_t index) const {
    uint32_t x0 = static_cast<uint32_t>(index), x1 = static_cast<uint32_t>(index >> 32);
    uint32_t x2 = static_cast<uint32_t>(iteration), x3 = static_cast<uint32_t>(iteration >> 32);
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      uint64_t p0 = 0xD2511F53ull * x0, p1 = 0xCD9E8D57ull * x2;
      uint32_t y0 = static_cast<uint32_t>(p1 >> 32) ^ x1 ^ k0;
      uint32_t y2 = static_cast<uint32_t>(p0 >> 32) ^ x3 ^ k1;
      x1 = static_cast<uint32_t>(p1);
      x3 = static_cast<uint32_t>(p0);
      x0 = y0;
      x2 = y2;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {{x0, x1, x2, x3}};
  }
  // In [0, 1), 53 bits.
  CREMA_HD double Uniform(uint64_t index) const {
    Words r = At(index);
    uint64_t bits = (static_cast<uint64_t>(r.w[0]) << 32) | r.w[1];
    return static_cast<double>(bits >> 11) * (1.0 / 9007199254740992.0);
  }
  // Standard normal (Box and Muller's transform).
  CREMA_HD double Normal(uint64_t index) const {
    Words r = At(index);
    uint64_t a = (static_cast<uint64_t>(r.w[0]) << 32) | r.w[1],
             b = (static_cast<uint64_t>(r.w[2]) << 32) | r.w[3];
    double u = (static_cast<double>(a >> 11) + 1.0) * (1.0 / 9007199254740992.0);  // (0, 1]
    double v = static_cast<double>(b >> 11) * (1.0 / 9007199254740992.0);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
  }
};

inline Philox MakePhilox(uint64_t seed, std::string_view what, int64_t iteration = 0) {
  return {MixBits(seed, NameKey(what)), static_cast<uint64_t>(iteration)};
}

}  // namespace crema
