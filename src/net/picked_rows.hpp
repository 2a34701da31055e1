// Floor 4. Rows of a table picked by number, and the way back of their gradients. Called by the layers that
// look rows up: BatchReindex, Embed, Filter.
#pragma once

#include <vector>

#include "crema/layer.hpp"

namespace crema {

// The numbers in a blob, of any type.
std::vector<double> HostValues(const Blob& blob);
// The same as rows of a table of `rows`. Throws Error, naming the layer, for a number that is none of them.
std::vector<int64_t> RowNumbers(const Layer& layer, const Blob& blob, int64_t rows);

class PickedRows {
 public:
  PickedRows() = default;
  // Of each picked row, its number in the table. A row may be picked several times.
  PickedRows(const Context& ctx, const std::vector<int64_t>& numbers);
  int64_t count() const { return number_.count(); }
  // out[i] = table[number of i], rows of `length` elements; real numbers or labels.
  void Pick(const Context& ctx, const Tensor& table, int64_t length, Tensor* out) const;
  // table_grad[number of i] += out_grad[i], for each row of the table in the order of i.
  void AddBack(const Context& ctx, const Tensor& out_grad, int64_t length, Tensor* table_grad) const;

 private:
  Tensor number_;
  // The rows picked at least once, each with a run of `pick_` that lists who picked it.
  Tensor row_, run_begin_, pick_;
};

}  // namespace crema
