// Floor 6. GradientReducer: sums the gradients of replicated weights over the ranks while Backward still
// runs. Called by the solver.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "crema/blob.hpp"
#include "crema/context.hpp"

namespace crema {

class GradientReducer {
 public:
  // Puts the weights with a gradient of their own on each rank into buckets of about `bucket_bytes`, from the
  // last param to the first, the order in which Backward completes them. Sharded weights are left alone. With
  // `travel_as` bf16 or f16 gradients are rounded to it on their way, which halves the traffic; each rank's
  // share of the mean is what is rounded, in f16 times 1,024, so that neither its small nor its large numbers
  // are lost.
  GradientReducer(const Context& ctx, const std::vector<Param*>& params, DType travel_as = DType::kF32,
                  int64_t bucket_bytes = 16 << 20);
  ~GradientReducer();

  // To be called by Backward for each param whose last contribution is in; starts the all-reduce of a bucket
  // that is complete. Collective: in the same order on every rank.
  void Done(Param& param);
  // Returns when every gradient is the sum over the ranks. Buckets with params that Backward never completed
  // are summed too. Collective.
  void Finish();
  // Sets every statistic to its mean over the ranks. Collective.
  void AverageStatistics(const Context& ctx);

  // What Finish and AverageStatistics exchange, but for the padding between gradients.
  static std::vector<Collective> CollectivesFor(const std::vector<Param*>& params,
                                                DType travel_as = DType::kF32);
  int64_t bytes() const;  // of memory that it takes to round gradients in

  size_t buckets() const { return buckets_.size(); }

 private:
  struct Bucket;
  static bool Reduces(const Param& param) { return param.needs_grad() && !param.sharded; }

  void Start(Bucket* bucket);

  Context ctx_;
  Communicator* comm_;
  DType travel_as_;
  double factor_ = 1;  // of gradients on their way
  std::vector<std::unique_ptr<Bucket>> buckets_;
  std::map<const Param*, Bucket*> bucket_of_;
  std::vector<Tensor*> statistics_;
  Tensor packed_;  // room for all statistics, one after another
};

}  // namespace crema
