#include "head/streaming_softmax.hpp"

#include <chrono>

#include "crema/fast_exp.hpp"
#include "crema/parallel.hpp"
#include "head/row_kernels.hpp"

namespace crema {
namespace {

// Rows whose centres, gradients and cosines stay in a core's cache.
constexpr int64_t kChunk = 256;
// Chunks are cut into so many runs; each adds up its own gradient of the embeddings, so that the sum does not
// depend on the number of threads.
constexpr int64_t kLanes = 32;

int64_t LaneBegin(int64_t lane, int64_t chunks) {
  return lane * chunks / kLanes;
}

// Largest logit of a sample's chunk and the sum of the exponentials less it.
template <class T>
struct FoldChunk {
  const T* cosine;  // [samples, count]
  int64_t count;
  MarginLogit<T> logit;
  T *largest, *sum;    // [samples]
  const int64_t* own;  // [samples], -1 where the class is not in the chunk
  T* own_logit;        // [samples]; written where it is

  CREMA_HD void operator()(int64_t b) const {
    T logits[kChunk];
    const T* x = cosine + b * count;
    const MarginLogit<T> rule = logit;  // in registers: what is written below might be it
#pragma omp simd
    for (int64_t r = 0; r < count; ++r) logits[r] = rule.Other(ClampCosine(x[r]));
    if (own[b] >= 0) own_logit[b] = logits[own[b]] = rule.Own(ClampCosine(x[own[b]]));
    T most = T(-1e30);
#pragma omp simd reduction(max : most)
    for (int64_t r = 0; r < count; ++r) most = logits[r] > most ? logits[r] : most;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t r = 0; r < count; ++r) total += FastExp(logits[r] - most);
    largest[b] = most;
    sum[b] = total;
  }
};

// Gradients of a sample's cosines, in place.
template <class T>
struct CosineGradient {
  T* cosine;  // [samples, count]
  int64_t count;
  MarginLogit<T> logit;
  const T* statistics;  // [2, samples]
  int64_t samples;
  T factor;
  const int64_t* own;

  CREMA_HD void operator()(int64_t b) const {
    T* x = cosine + b * count;
    const MarginLogit<T> rule = logit;
    const T largest = statistics[b], scaled = factor / statistics[samples + b];
    const T own_cosine = own[b] >= 0 ? ClampCosine(x[own[b]]) : T(0);
#pragma omp simd
    for (int64_t r = 0; r < count; ++r) {
      const T c = ClampCosine(x[r]);
      x[r] = FastExp(rule.Other(c) - largest) * scaled * rule.OtherSlope(c);
    }
    if (own[b] < 0) return;
    const T p = FastExp(rule.Own(own_cosine) - largest) * scaled;
    x[own[b]] = (p - factor) * rule.OwnSlope(own_cosine);
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
  int64_t count;
  T* out;
  CREMA_HD void operator()(int64_t i) const {
    T sum = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane * count + i];
    out[i] = sum;
  }
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

// Marks the samples whose class is in a chunk for as long as it lives.
class OwnInChunk {
 public:
  OwnInChunk(const std::vector<std::pair<int64_t, int64_t>>& own, int64_t first, int64_t count,
             std::vector<int64_t>* marks)
      : marks_(marks) {
    begin_ = std::lower_bound(own.begin(), own.end(), std::pair<int64_t, int64_t>{first, 0});
    end_ = std::lower_bound(begin_, own.end(), std::pair<int64_t, int64_t>{first + count, 0});
    for (auto it = begin_; it != end_; ++it) (*marks_)[static_cast<size_t>(it->second)] = it->first - first;
  }
  ~OwnInChunk() {
    for (auto it = begin_; it != end_; ++it) (*marks_)[static_cast<size_t>(it->second)] = -1;
  }
  OwnInChunk(const OwnInChunk&) = delete;

 private:
  std::vector<std::pair<int64_t, int64_t>>::const_iterator begin_, end_;
  std::vector<int64_t>* marks_;
};

// A tensor that grows, and keeps its memory otherwise.
void Grow(const Context& ctx, DType dtype, int64_t count, Tensor* tensor) {
  if (tensor->empty() || tensor->count() < count) *tensor = Tensor(*ctx.device, dtype, {count});
}

}  // namespace

StreamingTimes& StreamingTimes::operator+=(const StreamingTimes& other) {
  draw += other.draw, gather += other.gather, multiply += other.multiply, softmax += other.softmax,
      update += other.update;
  chunks += other.chunks, skipped += other.skipped;
  return *this;
}

template <class T>
typename StreamingSoftmax<T>::Sizes StreamingSoftmax<T>::SizesFor(int64_t samples, int64_t width,
                                                                  int64_t rows, bool backward_follows,
                                                                  bool update_rows, int64_t keep_bytes) {
  const int64_t chunk_bytes = kChunk * samples * static_cast<int64_t>(sizeof(T));
  Sizes sizes;
  sizes.unit = kChunk * width, sizes.inverse_norm = kChunk, sizes.cosines = kChunk * samples;
  sizes.gradient = update_rows ? kChunk * width : 0;
  sizes.chunks = (rows + kChunk - 1) / kChunk;
  sizes.kept_chunks =
      backward_follows ? std::min(sizes.chunks, keep_bytes / std::max<int64_t>(1, chunk_bytes)) : 0;
  sizes.kept = sizes.kept_chunks * kChunk * samples;
  sizes.chunk_statistics = (2 * sizes.chunks + 1) * samples;
  sizes.lane_grads = backward_follows ? kLanes * samples * width : 0;
  return sizes;
}

template <class T>
typename StreamingSoftmax<T>::Sizes StreamingSoftmax<T>::Prepare(const Context& ctx, const Batch& batch,
                                                                 bool backward_follows, bool update_rows) {
  samples_ = batch.embeddings->dim(0), width_ = batch.embeddings->dim(1);
  const Sizes sizes = SizesFor(samples_, width_, batch.count, backward_follows, update_rows, keep_bytes_);
  chunks_ = sizes.chunks;
  workers_.resize(static_cast<size_t>(Workers(ctx)));
  for (Worker& worker : workers_) {
    Grow(ctx, DTypeOf<T>(), sizes.unit, &worker.unit);
    Grow(ctx, DTypeOf<T>(), sizes.inverse_norm, &worker.inverse_norm);
    Grow(ctx, DTypeOf<T>(), sizes.cosines, &worker.cosines);
    if (sizes.gradient > 0) Grow(ctx, DTypeOf<T>(), sizes.gradient, &worker.gradient);
    worker.own.assign(static_cast<size_t>(samples_), -1);
    worker.times = {};
  }
  own_.clear();
  for (int64_t b = 0; b < samples_; ++b) {
    if (batch.position[b] >= 0) own_.emplace_back(batch.position[b], b);
  }
  std::sort(own_.begin(), own_.end());
  return sizes;
}

// Gathers the chunk's rows at unit length; cosines [samples, rows of the chunk].
template <class T>
void StreamingSoftmax<T>::Score(const Context& ctx, const Batch& batch, int64_t chunk, Worker* worker,
                                T* cosines) {
  const int64_t first = chunk * kChunk, count = std::min(kChunk, batch.count - first);
  Stopwatch watch;
  UnitRows<T>(ctx, *batch.centres, batch.RowsFrom(first), first, count, worker->unit.template data<T>(),
              worker->inverse_norm.template data<T>());
  if (batch.memory != nullptr)
    batch.memory->Used(batch.RowsFrom(first), first, count, width_ * SizeOf(batch.centres->dtype()));
  worker->times.gather += watch.Lap();
  if (cosines == nullptr) return;
  const GemmShape product{false, true, samples_, count, width_, 0, 0, 0};
  ctx.device->Gemm(DTypeOf<T>(), product, 1, batch.embeddings->raw(), worker->unit.raw(), 0, cosines);
  worker->times.multiply += watch.Lap();
}

template <class T>
void StreamingSoftmax<T>::ForwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, bool keep,
                                       Worker* worker) {
  const int64_t first = chunk * kChunk, count = std::min(kChunk, batch.count - first);
  Stopwatch watch;
  if (batch.rule != nullptr) batch.rule->CatchUp(ctx, batch.RowsFrom(first), first, count);
  worker->times.update += watch.Lap();
  T* cosines = keep ? kept_.data<T>() + first * samples_ : worker->cosines.template data<T>();
  Score(ctx, batch, chunk, worker, cosines);
  watch.Lap();
  const OwnInChunk own(own_, first, count, &worker->own);
  T* largest = chunk_statistics_.data<T>() + 2 * chunk * samples_;
  T* own_logit = chunk_statistics_.data<T>() + 2 * chunks_ * samples_;
  ForEachRow(
      ctx, samples_,
      FoldChunk<T>{cosines, count, batch.logit, largest, largest + samples_, worker->own.data(), own_logit});
  worker->times.softmax += watch.Lap();
}

template <class T>
void StreamingSoftmax<T>::Forward(const Context& ctx, const Batch& batch, bool backward_follows,
                                  Tensor* statistics) {
  const Sizes sizes = Prepare(ctx, batch, backward_follows, false);
  kept_chunks_ = sizes.kept_chunks;
  Grow(ctx, DTypeOf<T>(), sizes.kept, &kept_);
  Grow(ctx, DTypeOf<T>(), sizes.chunk_statistics, &chunk_statistics_);
  T* own_logit = chunk_statistics_.data<T>() + 2 * chunks_ * samples_;
  ForEach(ctx, samples_, SetTo<T>{own_logit, T(kNotHere)});
  ForEachTask(ctx, kLanes, [&](int64_t lane, int worker) {
    for (int64_t k = LaneBegin(lane, chunks_); k < LaneBegin(lane + 1, chunks_); ++k)
      ForwardChunk(ctx, batch, k, k < kept_chunks_, &workers_[static_cast<size_t>(worker)]);
  });
  ForEachRow(ctx, samples_,
             FoldChunks<T>{chunk_statistics_.data<T>(), chunks_, samples_, own_logit, statistics->data<T>()});
  for (const Worker& worker : workers_) times_ += worker.times;
}

template <class T>
bool StreamingSoftmax<T>::Skips(const Batch& batch, int64_t chunk, const T* statistics) const {
  const int64_t first = chunk * kChunk, count = std::min(kChunk, batch.count - first);
  const auto own = std::lower_bound(own_.begin(), own_.end(), std::pair<int64_t, int64_t>{first, 0});
  if (own != own_.end() && own->first < first + count) return false;
  const double least = std::ldexp(1.0, -24) / static_cast<double>(chunks_);
  const T* of = chunk_statistics_.data<T>() + 2 * chunk * samples_;
  for (int64_t b = 0; b < samples_; ++b) {
    const double share = static_cast<double>(of[samples_ + b]) *
                         std::exp(static_cast<double>(of[b] - statistics[b])) /
                         static_cast<double>(statistics[samples_ + b]);
    if (!(share < least)) return false;
  }
  return true;
}

template <class T>
void StreamingSoftmax<T>::BackwardChunk(const Context& ctx, const Batch& batch, int64_t chunk,
                                        const T* statistics, T factor, Worker* worker, T* lane_grad,
                                        T* row_grad) {
  const int64_t first = chunk * kChunk, count = std::min(kChunk, batch.count - first);
  const int64_t* rows = batch.RowsFrom(first);
  T* gradient = row_grad != nullptr ? row_grad + first * width_ : worker->gradient.template data<T>();
  Stopwatch watch;
  ++worker->times.chunks;
  if (Skips(batch, chunk, statistics)) {
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
  Score(ctx, batch, chunk, worker, kept ? nullptr : cosines);
  watch.Lap();
  {
    const OwnInChunk own(own_, first, count, &worker->own);
    ForEachRow(
        ctx, samples_,
        CosineGradient<T>{cosines, count, batch.logit, statistics, samples_, factor, worker->own.data()});
  }
  worker->times.softmax += watch.Lap();
  if (lane_grad != nullptr) {
    const GemmShape product{false, false, samples_, width_, count, 0, 0, 0};
    ctx.device->Gemm(DTypeOf<T>(), product, 1, cosines, worker->unit.raw(), 1, lane_grad);
  }
  worker->times.multiply += watch.Lap();
  if (row_grad == nullptr && batch.rule == nullptr) return;
  const GemmShape product{true, false, count, width_, samples_, 0, 0, 0};
  ctx.device->Gemm(DTypeOf<T>(), product, 1, cosines, batch.embeddings->raw(), 0, gradient);
  worker->times.multiply += watch.Lap();
  ForEachRow(ctx, count,
             ProjectRow<T>{gradient, worker->unit.template data<T>(), worker->inverse_norm.template data<T>(),
                           gradient, width_});
  if (row_grad == nullptr) batch.rule->Update(ctx, rows, first, count, gradient);
  worker->times.update += watch.Lap();
}

template <class T>
void StreamingSoftmax<T>::Backward(const Context& ctx, const Batch& batch, const Tensor& statistics, T factor,
                                   Tensor* embedding_grad, T* row_grad) {
  const Sizes sizes = Prepare(ctx, batch, true, row_grad == nullptr);
  const int64_t lane_size = samples_ * width_;
  const bool wants_embeddings = embedding_grad != nullptr;
  if (wants_embeddings) {
    Grow(ctx, DTypeOf<T>(), sizes.lane_grads, &lane_grads_);
    lane_grads_.Zero();
  }
  ForEachTask(ctx, kLanes, [&](int64_t lane, int worker) {
    for (int64_t k = LaneBegin(lane, chunks_); k < LaneBegin(lane + 1, chunks_); ++k)
      BackwardChunk(ctx, batch, k, statistics.data<T>(), factor, &workers_[static_cast<size_t>(worker)],
                    wants_embeddings ? lane_grads_.data<T>() + lane * lane_size : nullptr, row_grad);
  });
  if (wants_embeddings)
    ForEach(ctx, lane_size, SumLanes<T>{lane_grads_.data<T>(), lane_size, embedding_grad->data<T>()});
  for (const Worker& worker : workers_) times_ += worker.times;
}

template <class T>
int64_t StreamingSoftmax<T>::bytes() const {
  int64_t sum = 0;
  const auto add = [&](const Tensor& tensor) { sum += tensor.empty() ? 0 : tensor.bytes(); };
  for (const Tensor* tensor : {&kept_, &chunk_statistics_, &lane_grads_}) add(*tensor);
  for (const Worker& worker : workers_) {
    for (const Tensor* tensor : {&worker.unit, &worker.inverse_norm, &worker.gradient, &worker.cosines})
      add(*tensor);
  }
  return sum;
}

template class StreamingSoftmax<float>;
template class StreamingSoftmax<double>;

}  // namespace crema
