#include "solver/reducer.hpp"

#include <glog/logging.h>

#include <set>

#include "crema/parallel.hpp"
#include "net/cast.hpp"

namespace crema {
namespace {

template <class T>
struct ScaleBy {
  T* x;
  T factor;
  CREMA_HD void operator()(int64_t i) const { x[i] *= factor; }
};

int64_t OffsetOf(const Tensor& tensor) {
  return static_cast<const char*>(tensor.raw()) - static_cast<const char*>(tensor.memory().get());
}

// Whether `next` lies right behind `tensor`, but for the padding to 64 bytes, in one piece of memory.
bool Follows(const Tensor& tensor, const Tensor& next) {
  if (tensor.memory() != next.memory() || tensor.dtype() != next.dtype()) return false;
  const int64_t gap = OffsetOf(next) - (OffsetOf(tensor) + tensor.bytes());
  return gap >= 0 && gap < 64;
}

}  // namespace

// Gradients that travel together: neighbours in memory are sent as one tensor, padding included.
struct GradientReducer::Bucket {
  std::vector<Param*> params;
  std::set<const Param*> missing;
  std::vector<Tensor> tensors;
  std::vector<Tensor> narrow;  // the same as they travel, where that is of 16 bits
  std::vector<std::unique_ptr<Pending>> pending;
  bool started = false;

  void MakeTensors() {
    for (size_t first = 0, last; first < params.size(); first = last + 1) {
      last = first;
      while (last + 1 < params.size() && Follows(params[last]->grad, params[last + 1]->grad)) ++last;
      Tensor &begin = params[first]->grad, &end = params[last]->grad;
      const int64_t bytes = OffsetOf(end) + end.bytes() - OffsetOf(begin);
      tensors.emplace_back(begin.device(), begin.dtype(), Shape{bytes / SizeOf(begin.dtype())}, 1,
                           begin.memory(), OffsetOf(begin));
    }
  }
};

GradientReducer::GradientReducer(const Context& ctx, const std::vector<Param*>& params, DType travel_as,
                                 int64_t bucket_bytes)
    : ctx_(ctx), comm_(ctx.comm), travel_as_(travel_as) {
  if (comm_->size() == 1) return;
  if (Has16Bits(travel_as)) factor_ = (travel_as == DType::kF16 ? 1024.0 : 1.0) / comm_->size();
  int64_t bytes = bucket_bytes;  // of the last bucket; a full one opens the next
  for (auto it = params.rbegin(); it != params.rend(); ++it) {
    Param* param = *it;
    if (param->kind == Param::Kind::kStatistic) statistics_.push_back(&param->value);
    if (!Reduces(*param)) continue;
    if (bytes >= bucket_bytes) {
      buckets_.push_back(std::make_unique<Bucket>());
      bytes = 0;
    }
    buckets_.back()->params.push_back(param);
    bucket_of_[param] = buckets_.back().get();
    bytes += param->grad.bytes();
  }
  int64_t packed = 0;
  for (const Tensor* statistic : statistics_) {
    CHECK(statistic->dtype() == statistics_[0]->dtype()) << "statistics of several types";
    packed += statistic->count();
  }
  if (packed > 0) packed_ = Tensor(*ctx.device, statistics_[0]->dtype(), {packed});
  for (auto& bucket : buckets_) {
    bucket->MakeTensors();
    for (const Tensor& tensor : bucket->tensors) {
      if (Has16Bits(travel_as)) bucket->narrow.emplace_back(*ctx.device, travel_as, tensor.shape());
    }
    bucket->missing.insert(bucket->params.begin(), bucket->params.end());
  }
}

GradientReducer::~GradientReducer() = default;

std::vector<Collective> GradientReducer::CollectivesFor(const std::vector<Param*>& params, DType travel_as) {
  Collective gradients{Collective::Kind::kAllReduce, "gradients of weights"};
  Collective statistics{Collective::Kind::kAllReduce, "statistics"};
  for (const Param* param : params) {
    const DType dtype = Has16Bits(travel_as) ? travel_as : param->dtype;
    if (Reduces(*param)) gradients.bytes += CountOf(param->shape) * SizeOf(dtype);
    if (param->kind == Param::Kind::kStatistic) statistics.bytes += param->bytes();
  }
  return {gradients, statistics};
}

int64_t GradientReducer::bytes() const {
  int64_t sum = 0;
  for (const auto& bucket : buckets_) {
    for (const Tensor& tensor : bucket->narrow) sum += tensor.bytes();
  }
  return sum;
}

void GradientReducer::Start(Bucket* bucket) {
  for (size_t i = 0; i < bucket->narrow.size(); ++i)
    Cast(ctx_, bucket->tensors[i], factor_, &bucket->narrow[i]);
  for (Tensor& tensor : bucket->narrow.empty() ? bucket->tensors : bucket->narrow)
    bucket->pending.push_back(comm_->StartAllReduce(&tensor, Reduce::kSum));
  bucket->started = true;
}

void GradientReducer::Done(Param& param) {
  const auto found = bucket_of_.find(&param);
  if (found == bucket_of_.end()) return;
  Bucket& bucket = *found->second;
  bucket.missing.erase(&param);
  if (bucket.missing.empty() && !bucket.started) Start(&bucket);
}

void GradientReducer::Finish() {
  for (auto& bucket : buckets_) {
    if (!bucket->started) Start(bucket.get());
  }
  for (auto& bucket : buckets_) {
    for (auto& pending : bucket->pending) pending->Wait();
    for (size_t i = 0; i < bucket->narrow.size(); ++i)
      Cast(ctx_, bucket->narrow[i], 1 / factor_, &bucket->tensors[i]);
    bucket->pending.clear();
    bucket->started = false;
    bucket->missing.insert(bucket->params.begin(), bucket->params.end());
  }
}

void GradientReducer::AverageStatistics(const Context& ctx) {
  if (statistics_.empty()) return;
  Device& device = *ctx.device;
  char* const packed = static_cast<char*>(packed_.raw());
  int64_t offset = 0;
  for (const Tensor* statistic : statistics_) {
    device.Copy(packed + offset, statistic->raw(), statistic->bytes());
    offset += statistic->bytes();
  }
  comm_->AllReduce(&packed_, Reduce::kSum);
  ForReal(packed_.dtype(), [&]<class T>() {
    ForEach(ctx, packed_.count(), ScaleBy<T>{packed_.data<T>(), static_cast<T>(1.0 / comm_->size())});
  });
  offset = 0;
  for (Tensor* statistic : statistics_) {
    device.Copy(statistic->raw(), packed + offset, statistic->bytes());
    offset += statistic->bytes();
  }
}

}  // namespace crema
