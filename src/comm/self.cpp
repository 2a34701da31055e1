// The communicator of a single rank: every collective is a copy or nothing, after the same checks as
// elsewhere, on any device.
#include "comm/checks.hpp"
#include "crema/device.hpp"

namespace crema {
namespace {

struct Done final : Pending {
  void Wait() override {}
};

class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void AllReduce(Tensor* tensor, Reduce) override { CheckReducible("AllReduce", *tensor); }
  std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) override {
    AllReduce(tensor, op);
    return std::make_unique<Done>();
  }
  void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) override {
    CheckRows("AllGather", *this, rows, mine, *all);
    mine.device().Copy(all->raw(), mine.raw(), mine.bytes());
  }
  void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) override {
    CheckReducible("ReduceScatter", all);
    CheckRows("ReduceScatter", *this, rows, *mine, all);
    all.device().Copy(mine->raw(), all.raw(), all.bytes());
  }
  void Broadcast(Tensor* tensor, int root) override {
    CheckMemory("Broadcast", *tensor);
    CheckRoot("Broadcast", *this, root);
  }
  void Barrier() override {}
  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override {
    CheckNumbers(*this, mine, counts);
    return mine;
  }
  void Abort(const std::string&) override {}  // there is nobody to release
};

}  // namespace

std::unique_ptr<Communicator> NewSelfCommunicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace crema
