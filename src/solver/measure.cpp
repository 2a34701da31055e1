#include "solver/measure.hpp"

#include <algorithm>
#include <cmath>

#include "crema/float16.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Term k of row r, the elements cut into rows of `width`.
template <class T, class Stored, Measure measure>
struct MeasureTerm {
  const Stored* values;
  int64_t count, width;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const int64_t i = row * width + k;
    if (i >= count) return T(0);
    const T x = static_cast<T>(values[i]);
    if (measure == Measure::kSquares) return x * x;
    if (measure == Measure::kMagnitude) return std::abs(x);
    return x - x == T(0) ? T(0) : T(1);  // inf - inf is NaN
  }
};

template <class T>
struct PartAsDouble {
  const T* parts;
  CREMA_HD double operator()(int64_t, int64_t i) const { return static_cast<double>(parts[i]); }
};

struct AddNumber {
  const double* number;
  double* sum;
  CREMA_HD void operator()(int64_t) const { *sum += *number; }
};

constexpr int64_t kWidth = 4096;

int64_t PartsOf(int64_t count) {
  return (count + kWidth - 1) / kWidth;
}

// Into PartsOf(count) numbers.
template <class T, class Stored, Measure measure>
void SumParts(const Context& ctx, const Tensor& x, int64_t count, T* parts) {
  RowReduce<Reduce::kSum>(ctx, PartsOf(count), kWidth,
                          MeasureTerm<T, Stored, measure>{x.data<Stored>(), count, kWidth}, parts);
}

template <class T, class Stored>
void MeasureParts(const Context& ctx, Measure measure, const Tensor& x, int64_t count, T* parts) {
  measure == Measure::kSquares     ? SumParts<T, Stored, Measure::kSquares>(ctx, x, count, parts)
  : measure == Measure::kMagnitude ? SumParts<T, Stored, Measure::kMagnitude>(ctx, x, count, parts)
                                   : SumParts<T, Stored, Measure::kNotFinite>(ctx, x, count, parts);
}

}  // namespace

double MeasureOf(const Context& ctx, Measure measure, const Tensor& x, int64_t count) {
  if (count < 0) count = x.count();
  if (count == 0 || x.dtype() == DType::kI64 || x.dtype() == DType::kI32 || x.dtype() == DType::kU8) return 0;
  double sum = 0;
  ForBlob(x.dtype(), [&]<class T, class Stored>() {
    Tensor parts(*ctx.device, DTypeOf<T>(), {PartsOf(count)});
    MeasureParts<T, Stored>(ctx, measure, x, count, parts.data<T>());
    for (T part : parts.ToHost<T>()) sum += static_cast<double>(part);
  });
  return sum;
}

double MeasureOf(const Context& ctx, Measure measure, const Param& param) {
  if (param.memory == nullptr) return MeasureOf(ctx, measure, param.value);
  double sum = 0;
  ForRowParts(param, [&](int64_t begin, int64_t end) {
    sum += MeasureOf(ctx, measure, param.value.Rows(begin, end));
  });
  return sum;
}

void AddMeasure(const Context& ctx, Measure measure, const std::vector<Tensor>& tensors, Tensor* sum) {
  int64_t parts = 0, next = 0;
  for (const Tensor& x : tensors) parts += PartsOf(x.count());
  if (parts == 0) return;
  ForReal(tensors.front().dtype(), [&]<class T>() {
    Tensor all(*ctx.device, DTypeOf<T>(), {parts}), total(*ctx.device, DType::kF64, {1});
    for (const Tensor& x : tensors) {
      MeasureParts<T, T>(ctx, measure, x, x.count(), all.data<T>() + next);
      next += PartsOf(x.count());
    }
    RowReduce<Reduce::kSum>(ctx, 1, parts, PartAsDouble<T>{all.data<T>()}, total.data<double>());
    ForEach(ctx, 1, AddNumber{total.data<double>(), sum->data<double>()});
  });
}

}  // namespace crema
