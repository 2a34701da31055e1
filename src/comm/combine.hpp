// Floor 2, inside src/comm. The sum or the larger of two numbers of a type that can be reduced; those of 16
// bits are reckoned in f32.
#pragma once

#include <type_traits>

#include "crema/comm.hpp"
#include "crema/float16.hpp"

namespace crema {

template <class T>
using WideOf = std::conditional_t<std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>, float, T>;

template <class T>
T Combine(Reduce op, T a, T b) {
  return op == Reduce::kSum ? a + b : (a > b ? a : b);
}

// Calls f.operator()<T>() for a type that can be reduced.
template <class F>
void ForNumber(DType dtype, const F& f) {
  if (dtype == DType::kI64) return f.template operator()<int64_t>();
  ForBlob(dtype, [&]<class, class T>() { f.template operator()<T>(); });
}

}  // namespace crema
