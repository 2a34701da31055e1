// Floor 3, the head wing. Rows that lie in the memory of a GPU's host: brought into its own for an iteration
// and put back behind it, beside what it computes. Called by the layer StreamingHead.
#pragma once

#include <memory>
#include <vector>

#include "crema/context.hpp"

namespace crema {

// All work is asynchronous: the host waits for none of it. The tensors `all` are a weight and its optimiser
// state, [rows, width], in memory of the host that the device reaches. `version` is another each time that
// others have written rows of theirs, which they may not from Take to Settle: what was fetched before is then
// fetched again.
class RowStage {
 public:
  // Of a GPU, which must outlive this.
  explicit RowStage(Device& device) : device_(device), beside_(device.Beside()) {}

  // Begins to copy rows of the iteration after this one, as far as it is known which; sorted.
  void Fetch(const Context& ctx, const std::vector<Tensor>& all, const std::vector<int64_t>& rows,
             int64_t version);
  // The rows of this iteration, sorted, one after the other: from those that were fetched, and the rest from
  // the host.
  void Take(const Context& ctx, const std::vector<Tensor>& all, const Tensor& rows, int64_t version);
  // Those that were taken, of each of `all`; to be worked on until PutBack.
  const std::vector<Tensor>& taken() const { return taken_.values; }
  // Begins to copy them back; those that have been fetched for the next iteration as well follow them.
  void PutBack(const Context& ctx, const std::vector<Tensor>& all);
  // The same where it was not called yet. What the device is given from now on comes after that.
  void Settle(const Context& ctx, const std::vector<Tensor>& all);

  // The most that a stage of so many rows holds at a time; `row_bytes`: of a row in each of `all` together.
  static int64_t BytesFor(int64_t rows, int64_t row_bytes) {
    return 2 * rows * (row_bytes + static_cast<int64_t>(sizeof(int64_t)));
  }

 private:
  struct Part {
    int64_t iteration = -1;      // that they are of; -1: none
    int64_t version = 0;         // when they were fetched
    Tensor rows;                 // which, sorted
    std::vector<Tensor> values;  // [rows, width]; of each tensor
  };
  // Rows out of `all`, and those that are in a part from there.
  static Part Collect(const Context& ctx, const std::vector<Tensor>& all, const Tensor& rows,
                      const Part& part);

  Device& device_;
  std::unique_ptr<Device> beside_;  // for copies across the bus
  Part fetched_, taken_;
  bool is_back_ = true;  // taken_ has been put back
};

}  // namespace crema
