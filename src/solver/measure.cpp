#include "solver/measure.hpp"

#include <cmath>

#include "crema/parallel.hpp"

namespace crema {
namespace {

// Term k of row r, the elements cut into rows of `width`.
template <class T, Measure measure>
struct MeasureTerm {
  const T* x;
  int64_t count, width;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const int64_t i = row * width + k;
    if (i >= count) return T(0);
    if (measure == Measure::kSquares) return x[i] * x[i];
    if (measure == Measure::kMagnitude) return std::abs(x[i]);
    return x[i] - x[i] == T(0) ? T(0) : T(1);  // inf - inf is NaN
  }
};

template <class T, Measure measure>
double Sum(const Context& ctx, const Tensor& x, int64_t count) {
  constexpr int64_t kWidth = 4096;
  const int64_t rows = (count + kWidth - 1) / kWidth;
  Tensor partial(*ctx.device, x.dtype(), {rows});
  RowReduce<Reduce::kSum>(ctx, rows, kWidth, MeasureTerm<T, measure>{x.data<T>(), count, kWidth},
                          partial.data<T>());
  double sum = 0;
  for (T part : partial.ToHost<T>()) sum += static_cast<double>(part);
  return sum;
}

}  // namespace

double MeasureOf(const Context& ctx, Measure measure, const Tensor& x, int64_t count) {
  if (count < 0) count = x.count();
  if (count == 0 || x.dtype() == DType::kI64 || x.dtype() == DType::kU8) return 0;
  double sum = 0;
  ForReal(x.dtype(), [&]<class T>() {
    sum = measure == Measure::kSquares     ? Sum<T, Measure::kSquares>(ctx, x, count)
          : measure == Measure::kMagnitude ? Sum<T, Measure::kMagnitude>(ctx, x, count)
                                           : Sum<T, Measure::kNotFinite>(ctx, x, count);
  });
  return sum;
}

}  // namespace crema
