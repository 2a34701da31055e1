#include "comm/host.hpp"

#include "comm/checks.hpp"
#include "comm/combine.hpp"

namespace crema {
namespace {

struct PendingCopy final : Pending {
  PendingCopy(const Tensor& target, const Tensor& result) : target_(target), result_(result) {}
  void Wait() override { target_.CopyFrom(result_); }
  Tensor target_, result_;
};

std::string ListOf(const std::vector<int64_t>& numbers) {
  std::string list;
  for (int64_t n : numbers) list += (list.empty() ? "" : ", ") + std::to_string(n);
  return list;
}

}  // namespace

void CombineRanks(DType dtype, Reduce op, const std::vector<const void*>& inputs, int64_t first,
                  int64_t count, void* out) {
  ForNumber(dtype, [&]<class T>() {
    for (int64_t i = 0; i < count; ++i) {
      const auto of = [&](size_t r) {
        return static_cast<WideOf<T>>(static_cast<const T*>(inputs[r])[first + i]);
      };
      WideOf<T> value = of(0);
      for (size_t r = 1; r < inputs.size(); ++r) value = Combine(op, value, of(r));
      static_cast<T*>(out)[i] = static_cast<T>(value);
    }
  });
}

std::string CallOfReduction(Reduce op, const Tensor& tensor) {
  return Concat("AllReduce (", NameOf(op), ") of ", tensor.count(), " elements of ", NameOf(tensor.dtype()));
}

std::string CallOfBroadcast(int root, const Tensor& tensor) {
  return Concat("Broadcast from rank ", root, " of ", tensor.count(), " elements of ",
                NameOf(tensor.dtype()));
}

std::string CallOfNumbers(const std::vector<int64_t>& counts) {
  return Concat("AllGatherNumbers of ", ListOf(counts), " numbers");
}

std::string CallOnRows(const char* call, const std::vector<int64_t>& rows, const Tensor& all) {
  return Concat(call, " of ", ListOf(rows), " rows of ", RowBytes(all) / SizeOf(all.dtype()), " elements of ",
                NameOf(all.dtype()));
}

std::unique_ptr<Pending> ReduceCopy(Communicator& comm, const Tensor& tensor, Reduce op) {
  CheckOnHost("StartAllReduce", tensor);
  CheckReducible("StartAllReduce", tensor);
  Tensor result(tensor.device(), tensor.dtype(), tensor.shape(), tensor.block());
  result.CopyFrom(tensor);
  comm.AllReduce(&result, op);
  return std::make_unique<PendingCopy>(tensor, result);
}

}  // namespace crema
