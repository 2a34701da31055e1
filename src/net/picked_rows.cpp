#include "net/picked_rows.hpp"

#include <algorithm>
#include <numeric>

#include "crema/parallel.hpp"
#include "net/axis_part.hpp"
#include "net/host_values.hpp"

namespace crema {

namespace {

template <class S>
struct PickRow {
  const S* table;
  const int64_t* number;
  int64_t length;
  S* out;
  CREMA_HD void operator()(int64_t i) const { out[i] = table[number[i / length] * length + i % length]; }
};

template <class T, class S>
struct AddPickedGrads {
  const S* out_grad;
  const int64_t *row, *run_begin, *pick;
  int64_t length;
  S* table_grad;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t k = i / length, column = i % length;
    S* grad = table_grad + row[k] * length + column;
    T sum = 0;
    for (int64_t p = run_begin[k]; p < run_begin[k + 1]; ++p)
      sum += static_cast<T>(out_grad[pick[p] * length + column]);
    Store(static_cast<T>(*grad) + sum, grad);
  }
};

}  // namespace

std::vector<double> HostValues(const Blob& blob) {
  if (const Blob::HostNumbers& there = blob.host_numbers()) return {there->begin(), there->end()};
  std::vector<double> values;
  ForBlobOrLabel(blob.dtype(), [&]<class S>() {
    for (S value : blob.data().ToHost<S>()) values.push_back(static_cast<double>(value));
  });
  return values;
}

std::vector<int64_t> RowNumbers(const Layer& layer, const Blob& blob, int64_t rows) {
  std::vector<int64_t> numbers;
  for (double value : HostValues(blob)) {
    Require(value >= 0 && value < static_cast<double>(rows), "layer '", layer.name(), "' (", layer.type(),
            "): element ", numbers.size(), " of '", blob.name(), "' is ", value,
            " where the number of one of the ", rows, " rows, 0 to ", rows - 1, ", was expected");
    numbers.push_back(static_cast<int64_t>(value));
  }
  return numbers;
}

PickedRows::PickedRows(const Context& ctx, const std::vector<int64_t>& numbers) {
  std::vector<int64_t> pick(numbers.size()), row, run_begin;
  std::iota(pick.begin(), pick.end(), int64_t{0});
  const auto number_of = [&](int64_t i) { return numbers[static_cast<size_t>(i)]; };
  std::stable_sort(pick.begin(), pick.end(),
                   [&](int64_t a, int64_t b) { return number_of(a) < number_of(b); });
  for (size_t p = 0; p < pick.size(); ++p) {
    if (!row.empty() && row.back() == number_of(pick[p])) continue;
    row.push_back(number_of(pick[p]));
    run_begin.push_back(static_cast<int64_t>(p));
  }
  run_begin.push_back(static_cast<int64_t>(pick.size()));
  number_ = OnDevice(ctx, numbers), pick_ = OnDevice(ctx, pick);
  row_ = OnDevice(ctx, row), run_begin_ = OnDevice(ctx, run_begin);
}

void PickedRows::Pick(const Context& ctx, const Tensor& table, int64_t length, Tensor* out) const {
  ForBlobOrLabel(table.dtype(), [&]<class S>() {
    ForEach(ctx, count() * length,
            PickRow<S>{table.data<S>(), number_.data<int64_t>(), length, out->data<S>()});
  });
}

void PickedRows::AddBack(const Context& ctx, const Tensor& out_grad, int64_t length,
                         Tensor* table_grad) const {
  ForBlob(out_grad.dtype(), [&]<class T, class S>() {
    ForEach(ctx, row_.count() * length,
            AddPickedGrads<T, S>{out_grad.data<S>(), row_.data<int64_t>(), run_begin_.data<int64_t>(),
                                 pick_.data<int64_t>(), length, table_grad->data<S>()});
  });
}

}  // namespace crema
