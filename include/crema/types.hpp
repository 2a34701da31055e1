// Floor 0. Element types, shapes and the layout of channels. Anyone may use it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "crema/error.hpp"

#ifdef __CUDACC__
#define CREMA_HD __host__ __device__
#else
#define CREMA_HD
#endif

namespace crema {

enum class DType : uint8_t { kF32, kF64, kBF16, kF16, kI64, kI32, kU8 };

int64_t SizeOf(DType dtype);      // bytes of one element
const char* NameOf(DType dtype);  // "f32"

template <class T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() {
  return DType::kF32;
}
template <>
constexpr DType DTypeOf<double>() {
  return DType::kF64;
}
template <>
constexpr DType DTypeOf<int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType DTypeOf<uint8_t>() {
  return DType::kU8;
}

// Calls f.operator()<T>() with the C++ type of a real dtype.
template <class F>
void ForReal(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f.template operator()<float>();
    case DType::kF64:
      return f.template operator()<double>();
    default:
      Fail("element type ", NameOf(dtype), " found where f32 or f64 was expected");
  }
}

// Sizes of the axes, outermost first; images are N, C, H, W. The empty shape is a scalar.
using Shape = std::vector<int64_t>;

int64_t CountOf(const Shape& shape);                              // product of all sizes
int64_t CountOf(const Shape& shape, int64_t begin, int64_t end);  // product of axes [begin, end)
std::string ToString(const Shape& shape);                         // "32x3x112x112"; "scalar"

// Where an element's channel is. Channels lie in blocks of `block`: element i belongs to channel
// (i / (block * inner)) % groups * block + i % block, with inner = H * W and groups = C / block.
// block = 1 is Caffe's N, C, H, W; block = C is channels-last; block = 8 and 16 are oneDNN's blocked layouts.
struct Channel {
  int64_t outer = 1;   // N
  int64_t groups = 1;  // C / block
  int64_t inner = 1;   // H * W
  int64_t block = 1;

  CREMA_HD int64_t channels() const { return groups * block; }
  CREMA_HD int64_t count() const { return outer * groups * inner * block; }
  // Channel of element i.
  CREMA_HD int64_t operator()(int64_t i) const { return i / (block * inner) % groups * block + i % block; }
  // Physical index of logical element (n, c, s), s a position in H * W.
  CREMA_HD int64_t at(int64_t n, int64_t c, int64_t s) const {
    return ((n * groups + c / block) * inner + s) * block + c % block;
  }
};

}  // namespace crema
