#include "head/streaming_softmax.hpp"

#include <chrono>

#include "crema/fast_exp.hpp"
#include "crema/parallel.hpp"
#include "head/row_kernels.hpp"

namespace crema {
namespace {

// Where a sample's own class is among a chunk's rows.
struct OwnClass {
  const int64_t* position;  // among all rows that are scored; -1: on another rank
  int64_t first, count;     // rows of the chunk
  // -1: not in the chunk.
  CREMA_HD int32_t operator()(int64_t b) const {
    const int64_t at = position[b] - first;
    return at >= 0 && at < count ? static_cast<int32_t>(at) : -1;
  }
};

// Largest logit of a sample's chunk and the sum of the exponentials less it.
template <class T>
struct FoldChunk {
  const T* cosine;  // [samples, own.count]
  OwnClass own;
  MarginLogit<T> logit;
  T *largest, *sum;  // [samples]
  T* own_logit;      // [samples]; written where the class is in the chunk

  template <class Lanes>
  CREMA_HD void operator()(int64_t b, const Lanes& lanes) const {
    const T* x = cosine + b * own.count;
    const MarginLogit<T> rule = logit;  // in registers: what is written below might be it
    const int32_t mine = own(b), count = static_cast<int32_t>(own.count);
    const T at_mine = mine >= 0 ? rule.Own(ClampCosine(x[mine])) : T(0);
    T most = T(-1e30);
#pragma omp simd reduction(max : most)
    for (int32_t r = static_cast<int32_t>(lanes.first()); r < count;
         r += static_cast<int32_t>(lanes.step())) {
      const T value = r == mine ? at_mine : rule.Other(ClampCosine(x[r]));
      most = value > most ? value : most;
    }
    most = lanes.Max(most);
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int32_t r = static_cast<int32_t>(lanes.first()); r < count; r += static_cast<int32_t>(lanes.step()))
      total += FastExp((r == mine ? at_mine : rule.Other(ClampCosine(x[r]))) - most);
    total = lanes.Sum(total);
    if (!lanes.Visits(0)) return;
    largest[b] = most;
    sum[b] = total;
    if (mine >= 0) own_logit[b] = at_mine;
  }
};

// Gradients of a sample's cosines; in place where `gradient` is `cosine`.
template <class T, class F>
struct CosineGradient {
  const T* cosine;  // [samples, own.count]
  F* gradient;
  OwnClass own;
  MarginLogit<T> logit;
  const T* statistics;  // [2, samples]
  int64_t samples;
  const T* loss_grad;  // of the mean over the samples

  template <class Lanes>
  CREMA_HD void operator()(int64_t b, const Lanes& lanes) const {
    const T* x = cosine + b * own.count;
    F* dx = gradient + b * own.count;
    const MarginLogit<T> rule = logit;
    const int64_t count = own.count;
    const T factor = *loss_grad / static_cast<T>(samples);
    const T largest = statistics[b], scaled = factor / statistics[samples + b];
    const int32_t mine = own(b);
    const bool visits = mine >= 0 && lanes.Visits(mine);
    const T own_cosine = visits ? ClampCosine(x[mine]) : T(0);
#pragma omp simd
    for (int64_t r = lanes.first(); r < count; r += lanes.step()) {
      const T c = ClampCosine(x[r]);
      Store(FastExp(rule.Other(c) - largest) * scaled * rule.OtherSlope(c), dx + r);
    }
    if (!visits) return;
    const T p = FastExp(rule.Own(own_cosine) - largest) * scaled;
    dx[mine] = static_cast<F>((p - factor) * rule.OwnSlope(own_cosine));
  }
};

// Folds the chunks' statistics of a sample in their order.
template <class T>
struct FoldChunks {
  const T* chunk_statistics;  // [chunks, 2, samples]
  int64_t chunks, samples;
  const T* own_logit;  // kNotHere where the class is elsewhere
  T* statistics;       // [3, samples]

  CREMA_HD void operator()(int64_t b) const {
    T largest = T(-1e30);
    for (int64_t k = 0; k < chunks; ++k) {
      const T m = chunk_statistics[2 * k * samples + b];
      largest = m > largest ? m : largest;
    }
    double sum = 0;
    for (int64_t k = 0; k < chunks; ++k) {
      const T* of = chunk_statistics + 2 * k * samples;
      sum += static_cast<double>(of[samples + b]) * exp(static_cast<double>(of[b] - largest));
    }
    statistics[b] = largest;
    statistics[samples + b] = static_cast<T>(sum);
    statistics[2 * samples + b] = own_logit[b] == T(kNotHere) ? own_logit[b] : own_logit[b] - largest;
  }
};

template <class T>
struct SumLanes {
  const T* lanes;
  int64_t lane_count, count;
  T* out;
  CREMA_HD void operator()(int64_t i) const {
    T sum = 0;
    for (int64_t lane = 0; lane < lane_count; ++lane) sum += lanes[lane * count + i];
    out[i] = sum;
  }
};

template <class T, class F>
struct RoundFactor {
  const T* x;
  F* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = static_cast<F>(x[i]); }
};

class Stopwatch {
 public:
  // Seconds since the last call.
  double Lap() {
    const auto now = std::chrono::steady_clock::now(), before = last_;
    last_ = now;
    return std::chrono::duration<double>(now - before).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// A tensor that grows, and keeps its memory otherwise.
void Grow(const Context& ctx, DType dtype, int64_t count, Tensor* tensor) {
  if (tensor->empty() || tensor->count() < count) *tensor = Tensor(*ctx.device, dtype, {count});
}

}  // namespace

Pieces Pieces::On(const Device& device) {
  return device.is_cuda() ? Pieces{1 << 13, 1} : Pieces{256, 32};
}

StreamingTimes& StreamingTimes::operator+=(const StreamingTimes& other) {
  draw += other.draw, gather += other.gather, multiply += other.multiply, softmax += other.softmax,
      update += other.update;
  chunks += other.chunks, skipped += other.skipped;
  return *this;
}

template <class T, class F>
typename StreamingSoftmax<T, F>::Sizes StreamingSoftmax<T, F>::SizesFor(const Pieces& pieces, int64_t samples,
                                                                        int64_t width, int64_t rows,
                                                                        bool backward_follows,
                                                                        bool update_rows,
                                                                        int64_t keep_bytes) {
  const int64_t chunk = pieces.chunk, chunk_bytes = chunk * samples * static_cast<int64_t>(sizeof(T));
  Sizes sizes;
  sizes.unit = chunk * width, sizes.inverse_norm = chunk, sizes.cosines = chunk * samples;
  sizes.gradient = update_rows ? chunk * width : 0;
  if (kRounds) sizes.embeddings = samples * width;
  if (kRounds && backward_follows) sizes.cosine_factors = chunk * samples;
  sizes.chunks = (rows + chunk - 1) / chunk;
  sizes.kept_chunks =
      backward_follows ? std::min(sizes.chunks, keep_bytes / std::max<int64_t>(1, chunk_bytes)) : 0;
  sizes.kept = sizes.kept_chunks * chunk * samples;
  sizes.chunk_statistics = (2 * sizes.chunks + 1) * samples;
  sizes.lane_grads = backward_follows ? pieces.lanes * samples * width : 0;
  return sizes;
}

template <class T, class F>
typename StreamingSoftmax<T, F>::Sizes StreamingSoftmax<T, F>::Prepare(const Context& ctx, const Batch& batch,
                                                                       bool backward_follows,
                                                                       bool update_rows) {
  samples_ = batch.embeddings->dim(0), width_ = batch.embeddings->dim(1);
  pieces_ = Pieces::On(*ctx.device);
  const Sizes sizes =
      SizesFor(pieces_, samples_, width_, batch.count, backward_follows, update_rows, keep_bytes_);
  chunks_ = sizes.chunks;
  workers_.resize(static_cast<size_t>(Workers(ctx)));
  for (Worker& worker : workers_) {
    Grow(ctx, DTypeOf<F>(), sizes.unit, &worker.unit);
    Grow(ctx, DTypeOf<T>(), sizes.inverse_norm, &worker.inverse_norm);
    Grow(ctx, DTypeOf<T>(), sizes.cosines, &worker.cosines);
    if (sizes.gradient > 0) Grow(ctx, DTypeOf<T>(), sizes.gradient, &worker.gradient);
    if (sizes.cosine_factors > 0) Grow(ctx, DTypeOf<F>(), sizes.cosine_factors, &worker.cosine_factors);
    worker.times = {};
  }
  return sizes;
}

// Gathers the chunk's rows at unit length; cosines [samples, rows of the chunk].
template <class T, class F>
void StreamingSoftmax<T, F>::Score(const Context& ctx, const Batch& batch, int64_t chunk, Worker* worker,
                                   T* cosines) {
  const int64_t first = chunk * pieces_.chunk, count = std::min(pieces_.chunk, batch.count - first);
  Stopwatch watch;
  UnitRows<T>(ctx, *batch.centres, batch.RowsFrom(first), first, count, worker->unit.template data<F>(),
              worker->inverse_norm.template data<T>());
  if (batch.memory != nullptr)
    batch.memory->Used(batch.RowsFrom(first), first, count, width_ * SizeOf(batch.centres->dtype()));
  worker->times.gather += watch.Lap();
  if (cosines == nullptr) return;
  const GemmShape product{false, true, samples_, count, width_, 0, 0, 0};
  ctx.device->Gemm(DTypeOf<F>(), product, 1, Embeddings(batch).raw(), worker->unit.raw(), 0, cosines);
  worker->times.multiply += watch.Lap();
}

template <class T, class F>
void StreamingSoftmax<T, F>::ForwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, bool keep,
                                          Worker* worker) {
  const int64_t first = chunk * pieces_.chunk, count = std::min(pieces_.chunk, batch.count - first);
  Stopwatch watch;
  if (batch.rule != nullptr) batch.rule->CatchUp(ctx, batch.RowsFrom(first), first, count);
  worker->times.update += watch.Lap();
  T* cosines = keep ? kept_.data<T>() + first * samples_ : worker->cosines.template data<T>();
  Score(ctx, batch, chunk, worker, cosines);
  watch.Lap();
  T* largest = chunk_statistics_.data<T>() + 2 * chunk * samples_;
  T* own_logit = chunk_statistics_.data<T>() + 2 * chunks_ * samples_;
  ForEachRow(
      ctx, samples_,
      FoldChunk<T>{
          cosines, {batch.position, first, count}, batch.logit, largest, largest + samples_, own_logit});
  worker->times.softmax += watch.Lap();
}

template <class T, class F>
void StreamingSoftmax<T, F>::Forward(const Context& ctx, const Batch& batch, bool backward_follows,
                                     Tensor* statistics) {
  const Sizes sizes = Prepare(ctx, batch, backward_follows, false);
  kept_chunks_ = sizes.kept_chunks;
  Grow(ctx, DTypeOf<T>(), sizes.kept, &kept_);
  Grow(ctx, DTypeOf<T>(), sizes.chunk_statistics, &chunk_statistics_);
  T* own_logit = chunk_statistics_.data<T>() + 2 * chunks_ * samples_;
  ForEach(ctx, samples_, SetTo<T>{own_logit, T(kNotHere)});
  if constexpr (kRounds) {
    Grow(ctx, DTypeOf<F>(), sizes.embeddings, &embeddings_);
    ForEach(ctx, samples_ * width_,
            RoundFactor<T, F>{batch.embeddings->template data<T>(), embeddings_.template data<F>()});
  }
  ForEachTask(ctx, pieces_.lanes, [&](int64_t lane, int worker) {
    for (int64_t k = LaneBegin(lane); k < LaneBegin(lane + 1); ++k)
      ForwardChunk(ctx, batch, k, k < kept_chunks_, &workers_[static_cast<size_t>(worker)]);
  });
  ForEachRow(ctx, samples_,
             FoldChunks<T>{chunk_statistics_.data<T>(), chunks_, samples_, own_logit, statistics->data<T>()});
  for (const Worker& worker : workers_) times_ += worker.times;
}

template <class T, class F>
bool StreamingSoftmax<T, F>::Skips(const Context& ctx, const Batch& batch, int64_t chunk,
                                   const T* statistics) const {
  if (ctx.device->is_cuda()) return false;  // the host would have to wait for the numbers
  const int64_t first = chunk * pieces_.chunk, count = std::min(pieces_.chunk, batch.count - first);
  const OwnClass own{batch.position, first, count};
  const double least = std::ldexp(1.0, -24) / static_cast<double>(chunks_);
  const T* of = chunk_statistics_.data<T>() + 2 * chunk * samples_;
  for (int64_t b = 0; b < samples_; ++b) {
    const double share = static_cast<double>(of[samples_ + b]) *
                         std::exp(static_cast<double>(of[b] - statistics[b])) /
                         static_cast<double>(statistics[samples_ + b]);
    if (own(b) >= 0 || !(share < least)) return false;
  }
  return true;
}

template <class T, class F>
void StreamingSoftmax<T, F>::BackwardChunk(const Context& ctx, const Batch& batch, int64_t chunk,
                                           const T* statistics, const T* loss_grad, Worker* worker,
                                           T* lane_grad, T* row_grad) {
  const int64_t first = chunk * pieces_.chunk, count = std::min(pieces_.chunk, batch.count - first);
  const int64_t* rows = batch.RowsFrom(first);
  T* gradient = row_grad != nullptr ? row_grad + first * width_ : worker->gradient.template data<T>();
  Stopwatch watch;
  ++worker->times.chunks;
  if (Skips(ctx, batch, chunk, statistics)) {
    ++worker->times.skipped;
    if (row_grad != nullptr) {
      ForEach(ctx, count * width_, SetTo<T>{gradient, T(0)});
    } else if (batch.rule != nullptr) {
      batch.rule->Update(ctx, rows, first, count, nullptr);
    }
    worker->times.update += watch.Lap();
    return;
  }
  const bool kept = chunk < kept_chunks_;
  T* cosines = kept ? kept_.data<T>() + first * samples_ : worker->cosines.template data<T>();
  F* factors = worker->CosineFactors(cosines);
  Score(ctx, batch, chunk, worker, kept ? nullptr : cosines);
  watch.Lap();
  ForEachRow(
      ctx, samples_,
      CosineGradient<T, F>{
          cosines, factors, {batch.position, first, count}, batch.logit, statistics, samples_, loss_grad});
  worker->times.softmax += watch.Lap();
  if (lane_grad != nullptr) {
    const GemmShape product{false, false, samples_, width_, count, 0, 0, 0};
    ctx.device->Gemm(DTypeOf<F>(), product, 1, factors, worker->unit.raw(), 1, lane_grad);
  }
  worker->times.multiply += watch.Lap();
  if (row_grad == nullptr && batch.rule == nullptr) return;
  const GemmShape product{true, false, count, width_, samples_, 0, 0, 0};
  ctx.device->Gemm(DTypeOf<F>(), product, 1, factors, Embeddings(batch).raw(), 0, gradient);
  worker->times.multiply += watch.Lap();
  ForEachRow(ctx, count,
             ProjectRow<T, F>{gradient, worker->unit.template data<F>(),
                              worker->inverse_norm.template data<T>(), gradient, width_});
  if (row_grad == nullptr) batch.rule->Update(ctx, rows, first, count, gradient);
  worker->times.update += watch.Lap();
}

template <class T, class F>
void StreamingSoftmax<T, F>::Backward(const Context& ctx, const Batch& batch, const Tensor& statistics,
                                      const T* loss_grad, Tensor* embedding_grad, T* row_grad) {
  const Sizes sizes = Prepare(ctx, batch, true, row_grad == nullptr);
  const int64_t lane_size = samples_ * width_;
  const bool wants_embeddings = embedding_grad != nullptr;
  if (wants_embeddings) {
    Grow(ctx, DTypeOf<T>(), sizes.lane_grads, &lane_grads_);
    lane_grads_.Zero();
  }
  ForEachTask(ctx, pieces_.lanes, [&](int64_t lane, int worker) {
    for (int64_t k = LaneBegin(lane); k < LaneBegin(lane + 1); ++k)
      BackwardChunk(ctx, batch, k, statistics.data<T>(), loss_grad, &workers_[static_cast<size_t>(worker)],
                    wants_embeddings ? lane_grads_.data<T>() + lane * lane_size : nullptr, row_grad);
  });
  if (wants_embeddings)
    ForEach(ctx, lane_size,
            SumLanes<T>{lane_grads_.data<T>(), pieces_.lanes, lane_size, embedding_grad->data<T>()});
  for (const Worker& worker : workers_) times_ += worker.times;
}

template <class T, class F>
int64_t StreamingSoftmax<T, F>::bytes() const {
  int64_t sum = 0;
  const auto add = [&](const Tensor& tensor) { sum += tensor.empty() ? 0 : tensor.bytes(); };
  for (const Tensor* tensor : {&kept_, &chunk_statistics_, &lane_grads_, &embeddings_}) add(*tensor);
  for (const Worker& worker : workers_) {
    for (const Tensor* tensor :
         {&worker.unit, &worker.inverse_norm, &worker.gradient, &worker.cosines, &worker.cosine_factors})
      add(*tensor);
  }
  return sum;
}

template class StreamingSoftmax<float>;
template class StreamingSoftmax<double>;
template class StreamingSoftmax<float, BFloat16>;

}  // namespace crema
