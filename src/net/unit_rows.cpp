#include "net/unit_rows.hpp"

#include <cmath>

#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct RowSquareTerm {
  const T* x;
  int64_t length;
  CREMA_HD double operator()(int64_t row, int64_t k) const {
    const double value = static_cast<double>(x[row * length + k]);
    return value * value;
  }
};

template <class T>
struct ScaleToUnit {
  T* x;
  const double* square;
  int64_t length;
  double rounding;  // of a sum of squares that should be 1
  CREMA_HD void operator()(int64_t i) const {
    const double sum = square[i / length];
    if (sum > 0 && fabs(sum - 1) > rounding) x[i] = static_cast<T>(static_cast<double>(x[i]) / sqrt(sum));
  }
};

}  // namespace

Tensor RowSquares(const Context& ctx, const Tensor& rows) {
  const int64_t count = rows.dim(0), length = count > 0 ? rows.count() / count : 0;
  Tensor squares(*ctx.device, DType::kF64, {count});
  ForReal(rows.dtype(), [&]<class T>() {
    RowReduce<Reduce::kSum>(ctx, count, length, RowSquareTerm<T>{rows.data<T>(), length},
                            squares.data<double>());
  });
  return squares;
}

void MakeRowsUnit(const Context& ctx, Tensor* rows) {
  if (rows->count() == 0) return;
  const Tensor squares = RowSquares(ctx, *rows);
  ForReal(rows->dtype(), [&]<class T>() {
    const double rounding = sizeof(T) == sizeof(float) ? 1e-6 : 1e-13;
    ForEach(ctx, rows->count(),
            ScaleToUnit<T>{rows->data<T>(), squares.data<double>(), rows->count() / rows->dim(0), rounding});
  });
}

}  // namespace crema
