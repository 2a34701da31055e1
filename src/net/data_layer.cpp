#include "net/data_layer.hpp"

#include <unistd.h>

#include <algorithm>
#include <future>
#include <numeric>
#include <thread>

#include "net/host_values.hpp"

namespace crema {
namespace {

// This rank's share of the processors, of those it may run on.
int64_t ProcessorsOf(int64_t ranks) {
  const int64_t online = sysconf(_SC_NPROCESSORS_ONLN);
  const int64_t allowed = std::thread::hardware_concurrency();  // by this process, where a launcher binds it
  return std::clamp<int64_t>(online / ranks, 1, std::max<int64_t>(allowed, 1));
}

}  // namespace

BatchShare ShareOfBatch(const Context& ctx, int64_t batch) {
  const std::vector<int64_t> batches = ctx.comm->AllGatherNumber(batch);
  const auto mine = batches.begin() + ctx.comm->rank();
  const int64_t before = std::accumulate(batches.begin(), mine, int64_t{0});
  return {before, std::accumulate(mine, batches.end(), before)};
}

// The batch of a coming pass, which travels to the device while it computes.
struct DataLayer::Ahead {
  Tensor images, labels;
  std::unique_ptr<Upload> upload;  // behind them, so that what travels has come before they go
  std::shared_ptr<std::atomic<Blob::HostNumbers>> host_labels;  // of `pass`, once they are known
  int64_t pass = -1;
  std::future<void> sent;  // last, so that it is waited for before the others go
};

DataLayer::~DataLayer() = default;

// The ranks tell each other their batches once, so this is a collective call, like building the net.
SourceOptions DataLayer::OptionsOf(const Context& ctx) const {
  SourceOptions options;
  options.transform = plan_.transform;
  options.phase = phase();
  options.seed = ctx.seed;
  options.shuffle = plan_.shuffle;
  options.prefetch = plan_.prefetch;
  options.skip_bad_records = plan_.skip_bad_records;
  // Where the device wants blocks of channels, the net makes them from channels last.
  options.planar = [ctx](int64_t channels) { return ctx.device->ChannelBlock(ctx.real, channels) == 1; };
  options.batch = plan_.batch;
  const BatchShare share = ShareOfBatch(ctx, plan_.batch);
  options.batch_offset = share.offset, options.global_batch = share.global;
  const int64_t ranks_here = LocalRanksOf(*ctx.comm).count;
  options.threads = static_cast<int>(plan_.threads > 0 ? plan_.threads : ProcessorsOf(ranks_here));
  if (plan_.rand_skip > 0)
    options.first_position = static_cast<int64_t>(MakePhilox(ctx.seed, "rand_skip").Uniform(0) *
                                                  static_cast<double>(plan_.rand_skip));
  return options;
}

void DataLayer::Reshape(const Context& ctx, const Blobs&, const Blobs& top) {
  if (source_ == nullptr) {
    NamingThis([&] {
      plan_ = Open();
      Require(plan_.batch > 0, "it has no batch_size");
      source_ = std::make_unique<Source>(plan_.dataset, OptionsOf(ctx));
    });
  }
  const ImageSize& size = source_->size();
  top[0]->Reshape(ctx.real, {plan_.batch, size.channels, size.height, size.width},
                  source_->planar() ? 1 : size.channels);
  if (top.size() > 1) top[1]->Reshape(DType::kI64, {plan_.batch});
  if (ahead_ != nullptr || ctx.real != DType::kF32) return;
  std::unique_ptr<Upload> upload = ctx.device->NewUpload();
  if (upload == nullptr) return;
  ahead_ = std::make_shared<Ahead>();
  ahead_->upload = std::move(upload);
}

int64_t DataLayer::BatchBytes(const Shape& images, int64_t prefetch) {
  const int64_t labels = images[0] * SizeOf(DType::kI64);
  return (std::max<int64_t>(1, prefetch) + 1) * (CountOf(images) * SizeOf(DType::kF32) + labels);
}

void DataLayer::Forward(const Context& ctx, const Blobs&, const Blobs& top) {
  NamingThis([&] {
    if (ahead_ != nullptr) return TakeFromAhead(ctx, top);
    const Batch& batch = source_->Get(ctx.pass);
    WriteFloats(batch.images, &top[0]->data());
    if (top.size() < 2) return;
    top[1]->data().FromHost(batch.labels);
    top[1]->set_host_numbers(std::make_shared<const std::vector<int64_t>>(batch.labels));
  });
}

void DataLayer::TakeFromAhead(const Context& ctx, const Blobs& top) {
  if (ahead_->images.empty()) {
    const Tensor& images = top[0]->data();
    ahead_->images = Tensor(*ctx.device, images.dtype(), images.shape(), images.block());
    ahead_->labels = Tensor(*ctx.device, DType::kI64, {plan_.batch});
  }
  if (ahead_->pass != ctx.pass) Fetch(ctx.pass);
  ahead_->pass = -1;  // should it fail
  ahead_->sent.get();
  ahead_->upload->Wait();
  top[0]->data().CopyFrom(ahead_->images);
  if (top.size() > 1) {
    top[1]->data().CopyFrom(ahead_->labels);
    top[1]->set_host_numbers(ahead_->host_labels->load());
  }
  Fetch(ctx.pass + 1);
  if (top.size() > 1) top[1]->set_coming_numbers(ahead_->host_labels);
}

// Starts to bring a batch to the device.
void DataLayer::Fetch(int64_t pass) {
  if (ahead_->sent.valid()) ahead_->sent.wait();
  ahead_->pass = pass;
  ahead_->host_labels = std::make_shared<std::atomic<Blob::HostNumbers>>();
  ahead_->upload->Begin();
  ahead_->sent = std::async(std::launch::async, [this, pass] {
    const Batch& batch = source_->Get(pass);
    ahead_->host_labels->store(std::make_shared<const std::vector<int64_t>>(batch.labels));
    ahead_->upload->Send(&ahead_->images, batch.images.data());
    ahead_->upload->Send(&ahead_->labels, batch.labels.data());
  });
}

void DataLayer::NamingThis(const std::function<void()>& body) const {
  try {
    body();
  } catch (const Error& error) {
    Check(false, error.what());
  }
}

}  // namespace crema
