// Floor 3, the head wing. Kernels on rows: embeddings and class centres, to unit length and back. Called by
// the streaming softmax and by src/net/partial_fc.
#pragma once

#include "crema/bfloat16.hpp"
#include "crema/parallel.hpp"

namespace crema {

template <class T>
CREMA_HD T ClampCosine(T x) {
  return x > 1 ? T(1) : x < -1 ? T(-1) : x;
}

// The inverse of a norm, or 1e12 if that is less, as torch.nn.functional.normalize has it.
template <class T>
CREMA_HD T InverseNorm(double squares) {
  const double norm = sqrt(squares);
  return static_cast<T>(1 / (norm > 1e-12 ? norm : 1e-12));
}

// What is made of a row beside its inverse norm.
enum class RowCopy {
  kNone,
  kAsItIs,
  kUnit,  // divided by its norm
};

// The inverse norm of row k of those listed (of [first, ...) where `rows` is null), and its copy.
template <RowCopy kCopy, class T, class Stored, class F>
struct MeasureRow {
  const Stored* x;
  const int64_t* rows;
  int64_t first, count, width;
  F* copy;  // [count, width]; null where there is none
  T* inverse_norm;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const Stored* row = x + (rows != nullptr ? rows[k] : first + k) * width;
    PrefetchRow(x, rows, k, count, width);
    F* y = kCopy == RowCopy::kNone ? nullptr : copy + k * width;
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t d = lanes.first(); d < width; d += lanes.step()) {
      const T value = static_cast<T>(row[d]);
      if constexpr (kCopy != RowCopy::kNone) Store(value, y + d);
      squares += value * value;
    }
    const T inverse = InverseNorm<T>(lanes.Sum(static_cast<double>(squares)));
    if constexpr (kCopy == RowCopy::kUnit) {
#pragma omp simd
      for (int64_t d = lanes.first(); d < width; d += lanes.step()) y[d] *= inverse;
    }
    if (lanes.Visits(0)) inverse_norm[k] = inverse;
  }
};

// Gradient through y = x / |x|: dx = (dy - (dy . y) y) / |x|; dx may be dy.
template <class T>
struct ProjectRow {
  const T *dy, *y, *inverse_norm;
  T* dx;
  int64_t width;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const T *from = dy + k * width, *unit = y + k * width;
    T* to = dx + k * width;
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t d = lanes.first(); d < width; d += lanes.step()) dot += from[d] * unit[d];
    dot = lanes.Sum(dot);
    const T inverse = inverse_norm[k];
#pragma omp simd
    for (int64_t d = lanes.first(); d < width; d += lanes.step()) to[d] = (from[d] - dot * unit[d]) * inverse;
  }
};

// Copies of rows of x, a tensor [rows, width] of T or bfloat16, and their inverse norms.
template <RowCopy kCopy, class T, class F>
void CopyRows(const Context& ctx, const Tensor& x, const int64_t* rows, int64_t first, int64_t count, F* copy,
              T* inverse_norm) {
  const int64_t width = x.dim(1);
  if (x.dtype() == DType::kBF16) {
    ForEachRow(
        ctx, count,
        MeasureRow<kCopy, T, BFloat16, F>{x.data<BFloat16>(), rows, first, count, width, copy, inverse_norm});
  } else {
    ForEachRow(ctx, count,
               MeasureRow<kCopy, T, T, F>{x.data<T>(), rows, first, count, width, copy, inverse_norm});
  }
}

}  // namespace crema
