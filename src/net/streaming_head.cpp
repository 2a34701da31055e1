#include "net/streaming_head.hpp"

#include <chrono>

#include "crema/parallel.hpp"
#include "net/host_values.hpp"

namespace crema {
namespace {

// Of each sample: its loss, from the ranks' statistics [ranks, 3, samples], and largest logit and sum over
// all.
template <class T>
struct JoinSample {
  const T* of_ranks;
  int64_t ranks, samples;
  T *joined, *loss;  // [2, samples], [samples]
  CREMA_HD void operator()(int64_t b) const {
    T largest = of_ranks[b];
    for (int64_t r = 1; r < ranks; ++r) {
      const T m = of_ranks[r * 3 * samples + b];
      largest = m > largest ? m : largest;
    }
    double sum = 0, own = 0;
    for (int64_t r = 0; r < ranks; ++r) {
      const T* of = of_ranks + r * 3 * samples;
      const double shift = static_cast<double>(of[b] - largest);
      sum += static_cast<double>(of[samples + b]) * exp(shift);
      const T mine = of[2 * samples + b];
      if (mine != T(kNotHere)) own = static_cast<double>(mine) + shift;
    }
    joined[b] = largest;
    joined[samples + b] = static_cast<T>(sum);
    loss[b] = static_cast<T>(log(sum) - own);
  }
};

// Whether a GPU reaches them across the bus.
bool LieOnHost(const Param& weight, const Device& device) {
  return weight.on_host && device.is_cuda();
}

template <class T>
struct MeanTerm {
  const T* x;
  T count;
  CREMA_HD T operator()(int64_t, int64_t i) const { return x[i] / count; }
};

}  // namespace

StreamingHead::StreamingHead(Layer& partial_fc, Layer& margin_softmax)
    : Layer(margin_softmax.spec()),
      partial_fc_(partial_fc),
      margin_softmax_(margin_softmax),
      fc_(partial_fc) {
  f32_ = std::make_unique<StreamingSoftmax<float>>(keep_bytes());
  f64_ = std::make_unique<StreamingSoftmax<double>>(keep_bytes());
  bf16_ = std::make_unique<StreamingSoftmax<float, BFloat16>>(keep_bytes());
}

int64_t StreamingHead::keep_bytes() const {
  return int64_t{partial_fc_.spec().dist_partial_fc_param().keep_logits_mb()} << 20;
}

// Whether rows are updated while they are at hand, so that their gradients are never there together.
bool StreamingHead::UpdatesAtOnce() const {
  const Param& weight = *partial_fc_.params()[0];
  return weight.needs_grad() && weight.rule != nullptr && weight.rule->immediate();
}

// Whether rows in the host's memory are brought into the GPU's for the iteration: not where all are scored,
// which would not fit, nor for several passes, each of which has others.
bool StreamingHead::FetchesRows(const Context& ctx, bool backward) const {
  const Param& weight = *partial_fc_.params()[0];
  const bool one_pass = weight.needs_grad() && weight.rule != nullptr && weight.rule->one_pass();
  return weight.on_host && backward && one_pass && !fc_.draws_all(ctx);
}

// The centres and what the optimiser keeps with them.
std::vector<Tensor> StreamingHead::Tensors() const {
  const Param& weight = *partial_fc_.params()[0];
  std::vector<Tensor> tensors = {weight.value};
  if (weight.rule == nullptr) return tensors;
  for (const Tensor& state : weight.rule->State()) tensors.push_back(state);
  return tensors;
}

template <class Body>
void StreamingHead::ForFactors(const Context& ctx, DType real, const Body& f) const {
  if (real == DType::kF64) {
    f.template operator()<double, double>();
  } else if (partial_fc_.params()[0]->dtype == DType::kBF16 && ctx.device->IsFastIn(DType::kBF16)) {
    f.template operator()<float, BFloat16>();
  } else {
    f.template operator()<float, float>();
  }
}

template <>
StreamingSoftmax<float>& StreamingHead::softmax() {
  return *f32_;
}
template <>
StreamingSoftmax<double>& StreamingHead::softmax() {
  return *f64_;
}
template <>
StreamingSoftmax<float, BFloat16>& StreamingHead::softmax() {
  return *bf16_;
}

int64_t StreamingHead::MultiplyAdds(const Blobs& bottom, const Blobs&) const {
  return fc_.samples() * fc_.width() * (bottom.empty() ? 0 : fc_.shard().rows);
}

// Beside what the softmax and the draw need, statistics_ and the rows that are being read ahead; for a
// moment, all ranks' statistics. Of storage HOST what a GPU needs.
Workspace StreamingHead::WorkspaceFor(const Context& ctx, const Blobs& bottom, const Blobs& top) const {
  const DType dtype = bottom[0]->dtype();
  const Param& weight = *partial_fc_.params()[0];
  const bool backward = top[0]->needs_grad(), at_once = UpdatesAtOnce();
  const int64_t rows = fc_.most_rows(ctx), per_sample = fc_.samples() * SizeOf(dtype);
  const bool in_file = weight.memory != nullptr, fetches = FetchesRows(ctx, backward);
  const int64_t row_bytes = std::ssize(Tensors()) * fc_.width() * SizeOf(weight.dtype);
  Workspace space = fc_.WorkspaceFor(ctx, dtype, backward && bottom[0]->needs_grad());
  ForFactors(ctx, dtype, [&]<class T, class F>() {
    using Softmax = StreamingSoftmax<T, F>;
    const bool all_here = fc_.draws_all(ctx) && !LieOnHost(weight, *ctx.device);
    const bool copies_rows = Softmax::CopiesRows(in_file || fetches || all_here, weight.dtype);
    const auto sizes = Softmax::SizesFor(
        Pieces::On(*ctx.device, fc_.samples(), fc_.width()),
        {fc_.samples(), fc_.width(), rows, copies_rows, backward, at_once, in_file ? row_bytes : 0},
        keep_bytes());
    constexpr int64_t kReal = sizeof(T), kFactor = sizeof(F);
    space.kept.push_back(
        {"buffers of threads", sizes.worker_bytes() * Workers(ctx) + sizes.embeddings * kFactor});
    space.kept.push_back({"kept products and norms", (sizes.kept + sizes.inverse_norms) * kReal});
    space.kept.push_back({"statistics of chunks", sizes.chunk_statistics * kReal + 2 * per_sample});
    space.kept.push_back({"gradients of embeddings, by lane", sizes.lane_grads * kReal});
  });
  if (fetches) space.kept.push_back({"rows from the host", RowStage::BytesFor(rows, row_bytes)});
  if (in_file && backward) space.kept.push_back({"numbers of rows read ahead", rows * SizeOf(DType::kI64)});
  space.scratch = std::max(space.scratch, (ctx.comm->size() + 1) * 3 * per_sample);
  if (backward && weight.needs_grad() && !at_once) space.row_grads = fc_.RowGradBytes(ctx, dtype);
  return space;
}

std::vector<Collective> StreamingHead::Collectives(const Context& ctx, const Blobs& bottom,
                                                   const Blobs& top) const {
  const DType dtype = bottom[0]->dtype();
  std::vector<Collective> all = fc_.Collectives(dtype, top[0]->needs_grad() && bottom[0]->needs_grad());
  all.push_back({Collective::Kind::kAllGather, "softmax statistics",
                 ctx.comm->size() * 3 * fc_.samples() * SizeOf(dtype)});
  return all;
}

void StreamingHead::Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  fc_.Reshape(ctx, *bottom[0], *bottom[1]);
  params() = partial_fc_.params();
  top[0]->Reshape(bottom[0]->dtype(), {});
}

template <class T, class F>
typename StreamingSoftmax<T, F>::Batch StreamingHead::MakeBatch(const Context& ctx) const {
  const Param& weight = *partial_fc_.params()[0];
  typename StreamingSoftmax<T, F>::Batch batch;
  batch.centres = staged_ ? &stage_->taken().front() : &weight.value;
  batch.staged = staged_;
  batch.on_host = LieOnHost(weight, *ctx.device);
  batch.memory = weight.memory.get();
  batch.rule = weight.rule;
  const std::vector<Tensor> tensors = staged_ ? stage_->taken() : Tensors();
  batch.state = {tensors.begin() + 1, tensors.end()};
  batch.loss = loss_.empty() ? nullptr : loss_.data<T>();
  batch.rows = fc_.rows();
  batch.count = fc_.row_count();
  batch.embeddings = &fc_.embeddings();
  batch.position = positions_.data<int64_t>();
  batch.logit = MarginLogitOf<T>(margin_softmax_.spec().margin_softmax_param());
  return batch;
}

// The loss, and the statistics over all ranks' classes, from this rank's.
template <class T>
void StreamingHead::JoinRanks(const Context& ctx, const Tensor& mine, Blob* top) {
  const int64_t ranks = ctx.comm->size(), samples = fc_.samples();
  Tensor all(*ctx.device, DTypeOf<T>(), {ranks, 3 * samples}), loss(*ctx.device, DTypeOf<T>(), {samples});
  ctx.comm->AllGather(mine.Reshaped({1, 3 * samples}), std::vector<int64_t>(static_cast<size_t>(ranks), 1),
                      &all);
  statistics_ = Tensor(*ctx.device, DTypeOf<T>(), {2, samples});
  ForEach(ctx, samples, JoinSample<T>{all.data<T>(), ranks, samples, statistics_.data<T>(), loss.data<T>()});
  RowReduce<Reduce::kSum>(ctx, 1, samples, MeanTerm<T>{loss.data<T>(), static_cast<T>(samples)},
                          top->data<T>());
  if (loss_.empty()) loss_ = Tensor(*ctx.device, DTypeOf<T>(), {1});
  loss_.CopyFrom(top->data().Reshaped({1}));
}

void StreamingHead::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  const auto begin = std::chrono::steady_clock::now();
  fc_.Draw(ctx, *bottom[1]);
  draw_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const bool backward_follows = top[0]->needs_grad();
  positions_ = OnDevice(ctx, fc_.positions());
  staged_ = ctx.device->is_cuda() && FetchesRows(ctx, backward_follows);
  if (staged_) {
    if (stage_ == nullptr) stage_ = std::make_unique<RowStage>(*ctx.device);
    const int64_t version = partial_fc_.params()[0]->rewritten;
    stage_->Take(ctx, Tensors(), fc_.row_index(), version);
    stage_->Fetch(ctx, Tensors(), fc_.ComingRows(ctx, *bottom[1]), version);
  } else if (backward_follows) {
    ReadAhead(ctx);
  }
  fc_.GatherEmbeddings(ctx, *bottom[0]);
  ForFactors(ctx, top[0]->dtype(), [&]<class T, class F>() {
    Tensor mine(*ctx.device, DTypeOf<T>(), {3, fc_.samples()});
    softmax<T, F>().Forward(ctx, MakeBatch<T, F>(ctx), backward_follows, &mine);
    JoinRanks<T>(ctx, mine, top[0]);
  });
}

// Asks for the rows of the next iteration while this one computes: which they are is known but for its
// labels.
void StreamingHead::ReadAhead(const Context& ctx) {
  const Param& weight = *partial_fc_.params()[0];
  if (weight.memory == nullptr) return;
  if (read_ahead_.valid()) read_ahead_.get();
  if (fc_.all_rows()) return;  // read in order, which the system does ahead by itself
  read_ahead_ = std::async(std::launch::async, [memory = weight.memory, tensors = Tensors(),
                                                row_bytes = weight.row_length() * SizeOf(weight.dtype),
                                                rows = fc_.RowsOf(ctx, ctx.iteration + 1)] {
    for (const Tensor& tensor : tensors)
      memory->WillNeedRows(tensor.raw(), rows.data(), 0, std::ssize(rows), row_bytes);
  });
}

void StreamingHead::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  ForFactors(ctx, top[0]->dtype(), [&]<class T, class F>() { BackwardOf<T, F>(ctx, *top[0], bottom[0]); });
}

// Rows go to the optimiser at once where it takes them, else their gradients are handed over.
template <class T, class F>
void StreamingHead::BackwardOf(const Context& ctx, const Blob& loss, Blob* embedding) {
  Param& weight = *partial_fc_.params()[0];
  typename StreamingSoftmax<T, F>::Batch batch = MakeBatch<T, F>(ctx);
  const bool learns = weight.needs_grad(), immediate = UpdatesAtOnce();
  if (!immediate) batch.rule = nullptr;
  Tensor row_grad, unit_grad;
  if (learns && !immediate) row_grad = Tensor(*ctx.device, DTypeOf<T>(), {fc_.row_count(), fc_.width()});
  if (embedding->needs_grad()) unit_grad = Tensor(*ctx.device, DTypeOf<T>(), {fc_.samples(), fc_.width()});
  softmax<T, F>().Backward(ctx, batch, statistics_, loss.grad().data<T>(),
                           unit_grad.empty() ? nullptr : &unit_grad,
                           row_grad.empty() ? nullptr : row_grad.data<T>());
  if (staged_) {
    if (immediate) {
      stage_->PutBack(ctx, Tensors());
    } else {
      weight.staged = stage_->taken();
    }
    weight.settle = [this, ctx] { stage_->Settle(ctx, Tensors()); };
  }
  if (!unit_grad.empty()) fc_.ScatterGrad(ctx, unit_grad, embedding);
  if (!row_grad.empty()) fc_.AddRowGrad(ctx, row_grad, &weight);
}

std::string StreamingHead::Note() {
  const StreamingTimes now = times();
  const int64_t chunks = now.chunks - noted_chunks_, skipped = now.skipped - noted_skipped_;
  noted_chunks_ = now.chunks, noted_skipped_ = now.skipped;
  return skipped == 0 ? ""
                      : Concat(skipped, " of ", chunks,
                               " chunks of classes had no gradient to speak of and were skipped");
}

StreamingTimes StreamingHead::times() const {
  StreamingTimes sum = f32_->times();
  sum += f64_->times();
  sum += bf16_->times();
  sum.draw = draw_seconds_;
  return sum;
}

void StreamingHead::ResetTimes() {
  f32_->ResetTimes(), f64_->ResetTimes(), bf16_->ResetTimes();
  noted_chunks_ = noted_skipped_ = 0;
  draw_seconds_ = 0;
}

int64_t StreamingHead::bytes() const {
  return f32_->bytes() + f64_->bytes() + bf16_->bytes();
}

}  // namespace crema
