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

// A chunk's products of unit embeddings and rows as they are, and what makes cosines of them.
template <class T>
struct ChunkProducts {
  const T* products;      // [samples, rows of the chunk]
  const T* inverse_norm;  // of the rows
  int64_t count;
  CREMA_HD const T* OfSample(int64_t b) const { return products + b * count; }
};

// Largest logit of a sample's chunk and the sum of the exponentials less it.
template <class T>
struct FoldChunk {
  ChunkProducts<T> chunk;
  OwnClass own;
  MarginLogit<T> logit;
  T *largest, *sum;  // [samples]
  T* own_logit;      // [samples]; written where the class is in the chunk

  template <class Lanes>
  CREMA_HD void operator()(int64_t b, const Lanes& lanes) const {
    const T *x = chunk.OfSample(b), *inverse = chunk.inverse_norm;
    const MarginLogit<T> rule = logit;  // in registers: what is written below might be it
    const int32_t mine = own(b), count = static_cast<int32_t>(own.count);
    const T at_mine = mine >= 0 ? rule.Own(ClampCosine(x[mine] * inverse[mine])) : T(0);
    T most = T(-1e30);
#pragma omp simd reduction(max : most)
    for (int32_t r = static_cast<int32_t>(lanes.first()); r < count;
         r += static_cast<int32_t>(lanes.step())) {
      const T value = r == mine ? at_mine : rule.Other(ClampCosine(x[r] * inverse[r]));
      most = value > most ? value : most;
    }
    most = lanes.Max(most);
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int32_t r = static_cast<int32_t>(lanes.first()); r < count; r += static_cast<int32_t>(lanes.step()))
      total += FastExp((r == mine ? at_mine : rule.Other(ClampCosine(x[r] * inverse[r]))) - most);
    total = lanes.Sum(total);
    if (!lanes.Visits(0)) return;
    largest[b] = most;
    sum[b] = total;
    if (mine >= 0) own_logit[b] = at_mine;
  }
};

// The gradients of a sample's cosines, times the rows' inverse norms: with rows as they are, they make the
// gradient of the embedding, and with embeddings that of the rows but for what it has along each row.
template <class T, class F>
struct RowFactors {
  ChunkProducts<T> chunk;
  F* factors;  // [samples, own.count]
  OwnClass own;
  MarginLogit<T> logit;
  const T* statistics;  // [2, samples]
  int64_t samples;
  const T* loss_grad;  // of the mean over the samples

  template <class Lanes>
  CREMA_HD void operator()(int64_t b, const Lanes& lanes) const {
    const T *x = chunk.OfSample(b), *inverse = chunk.inverse_norm;
    F* y = factors + b * own.count;
    const MarginLogit<T> rule = logit;
    const int64_t count = own.count;
    const T factor = *loss_grad / static_cast<T>(samples);
    const T largest = statistics[b], scaled = factor / statistics[samples + b];
    const int32_t mine = own(b);
#pragma omp simd
    for (int64_t r = lanes.first(); r < count; r += lanes.step()) {
      const T c = ClampCosine(x[r] * inverse[r]);
      Store(FastExp(rule.Other(c) - largest) * scaled * rule.OtherSlope(c) * inverse[r], y + r);
    }
    if (mine < 0 || !lanes.Visits(mine)) return;
    const T c = ClampCosine(x[mine] * inverse[mine]);
    const T p = FastExp(rule.Own(c) - largest) * scaled;
    y[mine] = static_cast<F>((p - factor) * rule.OwnSlope(c) * inverse[mine]);
  }
};

// What the gradients of a tile of rows have along each row, as multiples of it. A row w = u / inverse_norm
// with the gradient h = sum over samples of factor * embedding has h - (h . u) u, and h . w is the sum of
// factor * product: `along` = inverse_norm^2 (h . w).
template <class T, class F>
struct AlongRows {
  static constexpr int64_t kTile = 64;
  ChunkProducts<T> chunk;
  const F* factors;
  int64_t samples;
  T* along;

  template <class Lanes>
  CREMA_HD void operator()(int64_t tile, const Lanes& lanes) const {
    constexpr int64_t kRun = Lanes::kRun;
    const int64_t begin = tile * kTile, left = chunk.count - begin, end = left < kTile ? left : kTile;
    for (int64_t j = lanes.first() * kRun; j < end; j += lanes.step() * kRun) {
      const int64_t n = end - j < kRun ? end - j : kRun;
      T sum[kRun] = {};
      for (int64_t b = 0; b < samples; ++b) {
        const T* x = chunk.OfSample(b) + begin + j;
        const F* y = factors + b * chunk.count + begin + j;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<T>(y[i]) * x[i];
      }
      const T* inverse = chunk.inverse_norm + begin + j;
      for (int64_t i = 0; i < n; ++i) along[begin + j + i] = sum[i] * inverse[i] * inverse[i];
    }
  }
};

// Takes it out of the gradient of row k, where no rule does.
template <class T, class F>
struct SubtractAlong {
  const T* along;
  const F* rows;
  int64_t width;
  T* gradient;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const F* row = rows + k * width;
    T* of_row = gradient + k * width;
    const T factor = along[k];
#pragma omp simd
    for (int64_t d = lanes.first(); d < width; d += lanes.step())
      of_row[d] -= factor * static_cast<T>(row[d]);
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

Pieces Pieces::On(const Device& device, int64_t samples, int64_t width) {
  if (device.is_cuda()) return {1 << 13, 1};
  constexpr int64_t kMostNumbers = 1 << 24;  // 64 MB of float32
  return {256, std::clamp<int64_t>(kMostNumbers / std::max<int64_t>(1, samples * width), 8, 32)};
}

StreamingTimes& StreamingTimes::operator+=(const StreamingTimes& other) {
  draw += other.draw, gather += other.gather, multiply += other.multiply, softmax += other.softmax,
      update += other.update;
  chunks += other.chunks, skipped += other.skipped;
  return *this;
}

template <class T, class F>
typename StreamingSoftmax<T, F>::Sizes StreamingSoftmax<T, F>::SizesFor(const Pieces& pieces, const Case& of,
                                                                        int64_t keep_bytes) {
  const int64_t chunk = pieces.chunk, chunk_bytes = chunk * of.samples * static_cast<int64_t>(sizeof(T));
  Sizes sizes;
  sizes.chunks = (of.rows + chunk - 1) / chunk;
  sizes.rows = of.copies_rows ? chunk * of.width : 0;
  sizes.staged_bytes = chunk * of.staged_bytes;
  sizes.products = chunk * of.samples;
  sizes.inverse_norms = of.rows;
  sizes.chunk_statistics = (2 * sizes.chunks + 1) * of.samples;
  if (kRounds) sizes.embeddings = of.samples * of.width;
  if (!of.backward) return sizes;
  sizes.factors = chunk * of.samples;
  sizes.along = chunk;
  sizes.gradient = of.updates_rows ? chunk * of.width : 0;
  sizes.kept_chunks = std::min(sizes.chunks, keep_bytes / std::max<int64_t>(1, chunk_bytes));
  sizes.kept = sizes.kept_chunks * chunk * of.samples;
  sizes.lane_grads = pieces.lanes * of.samples * of.width;
  return sizes;
}

template <class T, class F>
typename StreamingSoftmax<T, F>::Sizes StreamingSoftmax<T, F>::Prepare(const Context& ctx, const Batch& batch,
                                                                       bool backward, bool updates_rows) {
  samples_ = batch.embeddings->dim(0), width_ = batch.embeddings->dim(1);
  pieces_ = Pieces::On(*ctx.device, samples_, width_);
  const Sizes sizes = SizesFor(
      pieces_, {samples_, width_, batch.count, CopiesRows(batch), backward, updates_rows}, keep_bytes_);
  chunks_ = sizes.chunks;
  workers_.resize(static_cast<size_t>(Workers(ctx)));
  const auto stage = [&](Tensor* tensor) {
    if (batch.memory != nullptr && (tensor->empty() || tensor->dim(1) != width_))
      *tensor = Tensor(*ctx.device, batch.centres->dtype(), {pieces_.chunk, width_});
  };
  for (Worker& worker : workers_) {
    stage(&worker.value);
    for (size_t i = 0; i < batch.state.size(); ++i) stage(&worker.state[i]);
    Grow(ctx, DTypeOf<F>(), sizes.rows, &worker.rows);
    Grow(ctx, DTypeOf<T>(), sizes.products, &worker.products);
    Grow(ctx, DTypeOf<F>(), sizes.factors, &worker.factors);
    Grow(ctx, DTypeOf<T>(), sizes.along, &worker.along);
    Grow(ctx, DTypeOf<T>(), sizes.gradient, &worker.gradient);
    worker.times = {};
  }
  return sizes;
}

template <class T, class F>
RowSet StreamingSoftmax<T, F>::RowsOf(const Batch& batch, int64_t chunk) const {
  const int64_t first = chunk * pieces_.chunk, count = std::min(pieces_.chunk, batch.count - first);
  RowSet set{batch.rows == nullptr ? nullptr : batch.rows + first, first, count, nullptr, {}};
  if (!batch.staged) return set;
  const auto from_first = [&](const Tensor& staged) { return staged.Rows(first, first + count).raw(); };
  set.value = from_first(*batch.centres);
  for (size_t i = 0; i < batch.state.size(); ++i) set.state[i] = from_first(batch.state[i]);
  return set;
}

// Copies of rows that lie in a file, and of their state. To and from it by calls: through its mapping, each
// page that is written would be a fault, which costs more than to copy it.
template <class T, class F>
void StreamingSoftmax<T, F>::Bring(const Batch& batch, bool state, Worker* worker, RowSet* set) const {
  if (batch.memory == nullptr) return;
  const auto read = [&](const Tensor& all, Tensor* to) {
    batch.memory->ReadRows(all.raw(), set->rows, set->first, set->count, width_ * SizeOf(all.dtype()),
                           to->raw());
    return to->raw();
  };
  set->value = read(*batch.centres, &worker->value);
  for (size_t i = 0; state && i < batch.state.size(); ++i)
    set->state[i] = read(batch.state[i], &worker->state[i]);
}

template <class T, class F>
void StreamingSoftmax<T, F>::PutBack(const Batch& batch, const RowSet& set) const {
  if (batch.memory == nullptr) return;
  const auto write = [&](const Tensor& all, const void* from) {
    Tensor to = all;
    batch.memory->WriteRows(to.raw(), set.rows, set.first, set.count, width_ * SizeOf(all.dtype()), from);
  };
  write(*batch.centres, set.value);
  for (size_t i = 0; i < batch.state.size(); ++i) write(batch.state[i], set.state[i]);
}

// The chunk's rows as a factor of products, where they lie or copied together, and their inverse norms.
template <class T, class F>
const F* StreamingSoftmax<T, F>::Factor(const Context& ctx, const Batch& batch, int64_t chunk,
                                        const RowSet& set, Worker* worker) {
  T* inverse_norm = inverse_norms_.data<T>() + chunk * pieces_.chunk;
  const Tensor& lie = batch.memory != nullptr ? worker->value : *batch.centres;
  const int64_t* rows = set.staged() ? nullptr : set.rows;
  const int64_t first = batch.memory != nullptr ? 0 : set.first;
  if (CopiesRows(batch)) {
    F* copy = worker->rows.template data<F>();
    CopyRows<RowCopy::kAsItIs>(ctx, lie, rows, first, set.count, copy, inverse_norm);
    return copy;
  }
  const F* all = lie.template data<F>();
  if (!measured_)
    ForEachRow(
        ctx, set.count,
        MeasureRow<RowCopy::kNone, T, F, F>{all, nullptr, first, set.count, width_, nullptr, inverse_norm});
  return all + first * width_;
}

// Products [samples, rows of the chunk] of the embeddings and the rows.
template <class T, class F>
void StreamingSoftmax<T, F>::Multiply(const Context& ctx, const Batch& batch, const F* rows, int64_t count,
                                      T* products) const {
  const GemmShape product{false, true, samples_, count, width_, 0, 0, 0};
  ctx.device->Gemm(DTypeOf<F>(), product, 1, Embeddings(batch).raw(), rows, 0, products);
}

template <class T, class F>
void StreamingSoftmax<T, F>::ForwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, bool keep,
                                          Worker* worker) {
  RowSet set = RowsOf(batch, chunk);
  const int64_t first = set.first, count = set.count;
  const bool catches_up = batch.rule != nullptr && batch.rule->catches_up();
  Stopwatch watch;
  Bring(batch, catches_up, worker, &set);
  worker->times.gather += watch.Lap();
  if (catches_up) {
    batch.rule->CatchUp(ctx, set);
    PutBack(batch, set);
    worker->times.update += watch.Lap();
  }
  const F* rows = Factor(ctx, batch, chunk, set, worker);
  worker->times.gather += watch.Lap();
  T* products = keep ? kept_.data<T>() + first * samples_ : worker->products.template data<T>();
  Multiply(ctx, batch, rows, count, products);
  worker->times.multiply += watch.Lap();
  T* largest = chunk_statistics_.data<T>() + 2 * chunk * samples_;
  T* own_logit = chunk_statistics_.data<T>() + 2 * chunks_ * samples_;
  ForEachRow(ctx, samples_,
             FoldChunk<T>{{products, inverse_norms_.data<T>() + first, count},
                          {batch.position, first, count},
                          batch.logit,
                          largest,
                          largest + samples_,
                          own_logit});
  worker->times.softmax += watch.Lap();
}

template <class T, class F>
void StreamingSoftmax<T, F>::Forward(const Context& ctx, const Batch& batch, bool backward_follows,
                                     Tensor* statistics) {
  const Sizes sizes = Prepare(ctx, batch, backward_follows, false);
  kept_chunks_ = sizes.kept_chunks;
  measured_ = false;
  Grow(ctx, DTypeOf<T>(), sizes.inverse_norms, &inverse_norms_);
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
  measured_ = true;
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
  RowSet set = RowsOf(batch, chunk);
  const int64_t first = set.first, count = set.count;
  const bool updates = row_grad == nullptr && batch.rule != nullptr;
  T* gradient = row_grad != nullptr ? row_grad + first * width_ : worker->gradient.template data<T>();
  Stopwatch watch;
  ++worker->times.chunks;
  Bring(batch, updates, worker, &set);
  worker->times.gather += watch.Lap();
  if (Skips(ctx, batch, chunk, statistics)) {
    ++worker->times.skipped;
    if (row_grad != nullptr) {
      ForEach(ctx, count * width_, SetTo<T>{gradient, T(0)});
    } else if (updates) {
      batch.rule->Update(ctx, set, nullptr, nullptr, batch.loss);
      PutBack(batch, set);
    }
    worker->times.update += watch.Lap();
    return;
  }
  const bool kept = chunk < kept_chunks_;
  const F* factor_rows = Factor(ctx, batch, chunk, set, worker);
  worker->times.gather += watch.Lap();
  T* products = kept ? kept_.data<T>() + first * samples_ : worker->products.template data<T>();
  F* factors = worker->factors.template data<F>();
  if (!kept) Multiply(ctx, batch, factor_rows, count, products);
  worker->times.multiply += watch.Lap();
  const ChunkProducts<T> of_chunk{products, inverse_norms_.data<T>() + first, count};
  ForEachRow(
      ctx, samples_,
      RowFactors<T, F>{
          of_chunk, factors, {batch.position, first, count}, batch.logit, statistics, samples_, loss_grad});
  worker->times.softmax += watch.Lap();
  if (lane_grad != nullptr) {
    const GemmShape product{false, false, samples_, width_, count, 0, 0, 0};
    ctx.device->Gemm(DTypeOf<F>(), product, 1, factors, factor_rows, 1, lane_grad);
    worker->times.multiply += watch.Lap();
  }
  if (row_grad == nullptr && !updates) return;
  T* along = worker->along.template data<T>();
  ForEachRow(ctx, (count + AlongRows<T, F>::kTile - 1) / AlongRows<T, F>::kTile,
             AlongRows<T, F>{of_chunk, factors, samples_, along});
  worker->times.softmax += watch.Lap();
  const GemmShape product{true, false, count, width_, samples_, 0, 0, 0};
  ctx.device->Gemm(DTypeOf<F>(), product, 1, factors, Embeddings(batch).raw(), 0, gradient);
  worker->times.multiply += watch.Lap();
  if (row_grad != nullptr) {
    ForEachRow(ctx, count, SubtractAlong<T, F>{along, factor_rows, width_, gradient});
  } else {
    batch.rule->Update(ctx, set, gradient, along, batch.loss);
    PutBack(batch, set);
  }
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
  for (const Tensor* tensor : {&kept_, &inverse_norms_, &chunk_statistics_, &lane_grads_, &embeddings_})
    add(*tensor);
  for (const Worker& worker : workers_) {
    for (const Tensor* tensor : {&worker.value, &worker.state[0], &worker.state[1], &worker.rows,
                                 &worker.products, &worker.factors, &worker.along, &worker.gradient})
      add(*tensor);
  }
  return sum;
}

template class StreamingSoftmax<float>;
template class StreamingSoftmax<double>;
template class StreamingSoftmax<float, BFloat16>;

}  // namespace crema
