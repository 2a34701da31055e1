// The communicator of ranks that are not there: shapes, shards and sizes come out as on rank 0 of such a job,
// and nothing is exchanged.
#include "comm/checks.hpp"

namespace crema {
namespace {

class ImaginedCommunicator final : public Communicator {
 public:
  explicit ImaginedCommunicator(int ranks) : ranks_(ranks) {
    Require(ranks >= 1, "a job of ", ranks, " ranks was asked for; expected at least 1");
  }
  int rank() const override { return 0; }
  int size() const override { return ranks_; }
  void AllReduce(Tensor*, Reduce) override { Refuse("AllReduce"); }
  std::unique_ptr<Pending> StartAllReduce(Tensor*, Reduce) override { Refuse("StartAllReduce"); }
  void AllGather(const Tensor&, const std::vector<int64_t>&, Tensor*) override { Refuse("AllGather"); }
  void ReduceScatter(const Tensor&, const std::vector<int64_t>&, Tensor*) override {
    Refuse("ReduceScatter");
  }
  void Broadcast(Tensor*, int) override { Refuse("Broadcast"); }
  void Barrier() override { Refuse("Barrier"); }
  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override {
    CheckNumbers(*this, mine, counts);
    std::vector<int64_t> all;
    for (int r = 0; r < ranks_; ++r) all.insert(all.end(), mine.begin(), mine.end());
    return all;
  }
  void Abort(const std::string&) override {}  // there is nobody to release

 private:
  [[noreturn]] static void Refuse(const char* call) {
    Fail(call, " was called on the imagined ranks of a plan, which have no data to exchange");
  }

  int ranks_;
};

}  // namespace

int64_t SentBytes(const Collective& collective, int ranks) {
  const int64_t rounds = collective.kind == Collective::Kind::kAllReduce ? 2 : 1;
  return rounds * collective.bytes * (ranks - 1) / ranks;
}

std::unique_ptr<Communicator> NewImaginedCommunicator(int ranks) {
  return std::make_unique<ImaginedCommunicator>(ranks);
}

}  // namespace crema
