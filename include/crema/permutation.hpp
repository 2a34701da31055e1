// Floor 0. A keyed pseudo-random permutation of [0, size): a Feistel network over the next even power of two,
// walked until it falls inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). It takes
// no memory and any entry of it is computed alone. Anyone may call it.
#pragma once

#include <cstdint>

#include "crema/types.hpp"

namespace crema {

class Permutation {
 public:
  // size >= 1.
  CREMA_HD Permutation(uint64_t key, int64_t size) : key_(key), size_(static_cast<uint64_t>(size)) {
    while ((uint64_t{1} << (2 * half_)) < size_) ++half_;
    mask_ = (uint64_t{1} << half_) - 1;
  }
  // Where i goes; 0 <= i < size.
  CREMA_HD int64_t operator()(int64_t i) const {
    uint64_t x = static_cast<uint64_t>(i);
    do {
      x = Encrypt(x);
    } while (x >= size_);
    return static_cast<int64_t>(x);
  }

  // Where i comes from.
  CREMA_HD int64_t Inverse(int64_t i) const {
    uint64_t x = static_cast<uint64_t>(i);
    do {
      x = Decrypt(x);
    } while (x >= size_);
    return static_cast<int64_t>(x);
  }

 private:
  CREMA_HD uint64_t Encrypt(uint64_t x) const {
    uint64_t left = x >> half_, right = x & mask_;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t next = left ^ Mix(right, round);
      left = right;
      right = next;
    }
    return (left << half_) | right;
  }
  CREMA_HD uint64_t Decrypt(uint64_t x) const {
    uint64_t left = x >> half_, right = x & mask_;
    for (uint64_t round = 6; round-- > 0;) {
      const uint64_t before = right ^ Mix(left, round);
      right = left;
      left = before;
    }
    return (left << half_) | right;
  }
  CREMA_HD uint64_t Mix(uint64_t half, uint64_t round) const {
    uint64_t f = (half + key_ + round * 0x9E3779B97F4A7C15ull) * 0xBF58476D1CE4E5B9ull;
    f = (f ^ (f >> 29)) * 0x94D049BB133111EBull;
    return (f ^ (f >> 32)) & mask_;
  }

  uint64_t key_, size_, mask_ = 0;
  int half_ = 1;
};

}  // namespace crema
