// Floor 3, the head wing. Kernels on rows: embeddings and class centres, to unit length and back. Called by
// the streaming softmax and by src/net/partial_fc.
#pragma once

#include <type_traits>

#include "crema/bfloat16.hpp"
#include "crema/parallel.hpp"

namespace crema {

template <class T>
CREMA_HD T ClampCosine(T x) {
  return x > 1 ? T(1) : x < -1 ? T(-1) : x;
}

// unit[k] = row k of those listed (of [first, ...) where `rows` is null), divided by its norm, or by 1e-12 if
// that is more, as torch.nn.functional.normalize has it. Where unit rows have 16 bits (F), so have the rows.
template <class T, class Stored, class F = T>
struct UnitRow {
  const Stored* x;
  const int64_t* rows;
  int64_t first, count, width;
  F* unit;
  T* inverse_norm;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const Stored* row = x + (rows != nullptr ? rows[k] : first + k) * width;
    if (rows != nullptr && k + 1 < count)
      Prefetch(x + rows[k + 1] * width, width * static_cast<int64_t>(sizeof(Stored)));
    F* y = unit + k * width;
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t d = lanes.first(); d < width; d += lanes.step()) {
      const T value = static_cast<T>(row[d]);
      Store(value, y + d);
      squares += value * value;
    }
    const double norm = sqrt(lanes.Sum(static_cast<double>(squares)));
    const T inverse = static_cast<T>(1 / (norm > 1e-12 ? norm : 1e-12));
#pragma omp simd
    for (int64_t d = lanes.first(); d < width; d += lanes.step())
      Store(static_cast<T>(y[d]) * inverse, y + d);
    if (lanes.Visits(0)) inverse_norm[k] = inverse;
  }
};

// Gradient through y = x / |x|: dx = (dy - (dy . y) y) / |x|; dx may be dy.
template <class T, class F = T>
struct ProjectRow {
  const T* dy;
  const F* y;
  const T* inverse_norm;
  T* dx;
  int64_t width;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const T* from = dy + k * width;
    const F* unit = y + k * width;
    T* to = dx + k * width;
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t d = lanes.first(); d < width; d += lanes.step()) dot += from[d] * static_cast<T>(unit[d]);
    dot = lanes.Sum(dot);
    const T inverse = inverse_norm[k];
#pragma omp simd
    for (int64_t d = lanes.first(); d < width; d += lanes.step())
      to[d] = (from[d] - dot * static_cast<T>(unit[d])) * inverse;
  }
};

// Rows of x, a tensor [rows, width] of T or bfloat16, at unit length.
template <class T, class F>
void UnitRows(const Context& ctx, const Tensor& x, const int64_t* rows, int64_t first, int64_t count, F* unit,
              T* inverse_norm) {
  const int64_t width = x.dim(1);
  if (x.dtype() == DType::kBF16) {
    ForEachRow(ctx, count,
               UnitRow<T, BFloat16, F>{x.data<BFloat16>(), rows, first, count, width, unit, inverse_norm});
  } else if constexpr (std::is_same_v<T, F>) {
    ForEachRow(ctx, count, UnitRow<T, T>{x.data<T>(), rows, first, count, width, unit, inverse_norm});
  } else {
    Fail("rows of ", NameOf(x.dtype()), " found where bf16 was expected");
  }
}

}  // namespace crema
