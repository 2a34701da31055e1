#include "comm/checks.hpp"

#include <iterator>
#include <numeric>

#include "crema/device.hpp"
#include "crema/float16.hpp"

namespace crema {
namespace {

bool Overlap(const Tensor& a, const Tensor& b) {
  const char* first = static_cast<const char*>(a.raw());
  const char* second = static_cast<const char*>(b.raw());
  return a.count() > 0 && b.count() > 0 && first < second + b.bytes() && second < first + a.bytes();
}

void CheckCounts(const char* call, const char* what, const Communicator& comm,
                 const std::vector<int64_t>& counts) {
  Require(static_cast<int>(counts.size()) == comm.size(), call, " was given the ", what, " of ",
          counts.size(), " ranks where there are ", comm.size(), ".");
  for (size_t r = 0; r < counts.size(); ++r)
    Require(counts[r] >= 0, call, " was given ", counts[r], " ", what, " for rank ", r, ".");
}

}  // namespace

const char* NameOf(Reduce op) {
  return op == Reduce::kSum ? "sum" : "maximum";
}

int64_t RowBytes(const Tensor& tensor) {
  return CountOf(tensor.shape(), 1, tensor.axes()) * SizeOf(tensor.dtype());
}

void CheckMemory(const char* call, const Tensor& tensor) {
  Require(!tensor.empty(), call, " was given a tensor without memory.");
}

void CheckOnHost(const char* call, const Tensor& tensor) {
  CheckMemory(call, tensor);
  Require(!tensor.device().is_cuda(), call, " was given a tensor on ", tensor.device().name(),
          " where one on the CPU was expected.");
}

void CheckReducible(const char* call, const Tensor& tensor) {
  CheckMemory(call, tensor);
  const DType dtype = tensor.dtype();
  Require(dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kI64 || Has16Bits(dtype), call,
          " was given a tensor of ", NameOf(dtype), " where f32, f64, bf16, f16 or i64 was expected.");
}

void CheckRows(const char* call, const Communicator& comm, const std::vector<int64_t>& rows,
               const Tensor& mine, const Tensor& all) {
  CheckMemory(call, mine);
  CheckMemory(call, all);
  CheckCounts(call, "rows", comm, rows);
  Require(mine.axes() > 0 && all.axes() > 0, call, " was given a scalar where rows were expected.");
  const int64_t own = rows[static_cast<size_t>(comm.rank())];
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  Require(mine.dim(0) == own, call, " was given ", mine.dim(0), " rows on rank ", comm.rank(), " where ", own,
          " were expected.");
  Require(all.dim(0) == total, call, " was given a tensor of ", all.dim(0), " rows for all ranks where ",
          total, " were expected.");
  Require(mine.dtype() == all.dtype() && RowBytes(mine) == RowBytes(all) && mine.block() == all.block(), call,
          " was given a tensor of shape ", ToString(mine.shape()), " (", NameOf(mine.dtype()),
          ") and one of shape ", ToString(all.shape()), " (", NameOf(all.dtype()),
          ") where rows of one type and length were expected.");
  Require(!Overlap(mine, all), call, " was given two tensors that share memory.");
}

void CheckNumbers(const Communicator& comm, const std::vector<int64_t>& mine,
                  const std::vector<int64_t>& counts) {
  const char* call = "AllGatherNumbers";
  CheckCounts(call, "numbers", comm, counts);
  const int64_t own = counts[static_cast<size_t>(comm.rank())];
  Require(std::ssize(mine) == own, call, " was given ", mine.size(), " numbers on rank ", comm.rank(),
          " where ", own, " were expected.");
}

void CheckRoot(const char* call, const Communicator& comm, int root) {
  Require(root >= 0 && root < comm.size(), call, " was given rank ", root, " as its root where there are ",
          comm.size(), " ranks.");
}

}  // namespace crema
