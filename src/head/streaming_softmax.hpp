// Floor 3, the head wing. MarginSoftmax over cosines between embeddings and class centres, chunk by chunk of
// the classes: neither the logits nor a copy of the centres nor their gradient is ever there as a whole.
// Called by the layer StreamingHead.
#pragma once

#include <type_traits>
#include <vector>

#include "crema/bfloat16.hpp"
#include "crema/file_memory.hpp"
#include "crema/head.hpp"

namespace crema {

// Stands for the own logit of a sample whose class another rank owns.
constexpr double kNotHere = 1e30;

// Seconds, of all threads together but for the draw, and chunks, since the last reset.
struct StreamingTimes {
  double draw = 0, gather = 0, multiply = 0, softmax = 0, update = 0;
  int64_t chunks = 0, skipped = 0;  // of backward passes

  StreamingTimes& operator+=(const StreamingTimes& other);
};

// How classes are cut up on a device: into chunks of rows, small enough on the CPU for a core's cache, large
// enough on a GPU to fill it; and the chunks into runs that may be worked on at the same time, each of which
// adds up its own gradient of the embeddings, so that the sum does not depend on the number of threads.
struct Pieces {
  int64_t chunk = 0, lanes = 0;
  static Pieces On(const Device& device);
};

// In T; F is the type of the factors of all products, T or, for centres of bfloat16 on a device that
// multiplies it fast, bfloat16: unit embeddings and unit centres, and the gradients of their cosines, are
// then rounded to it.
template <class T, class F = T>
class StreamingSoftmax {
 public:
  // What one pass works on; the pointers stay valid from Forward to Backward.
  struct Batch {
    const Tensor* centres = nullptr;  // [rows of the shard, width]
    FileMemory* memory = nullptr;     // that the centres lie in; null: the device's
    RowRule* rule = nullptr;          // may be null: rows need no catching up, and are not updated here
    const int64_t* rows = nullptr;    // those that are scored, sorted; null: [0, count)
    int64_t count = 0;
    const Tensor* embeddings = nullptr;  // [samples, width], at unit length
    const int64_t* position = nullptr;   // of each sample's class among the rows; -1 where it is not here;
                                         // on the device
    MarginLogit<T> logit;

    // As RowRule takes them, from number `first` on.
    const int64_t* RowsFrom(int64_t first) const { return rows == nullptr ? nullptr : rows + first; }
  };

  // Elements of the buffers that it works with.
  struct Sizes {
    int64_t unit = 0, inverse_norm = 0, cosines = 0, gradient = 0;  // of each worker
    int64_t cosine_factors = 0;           // gradients of cosines as factors, of each worker
    int64_t chunks = 0, kept_chunks = 0;  // of classes; with their cosines kept
    int64_t kept = 0, chunk_statistics = 0, lane_grads = 0;  // of all
    int64_t embeddings = 0;                                  // as factors
    int64_t worker_bytes() const {
      return (inverse_norm + cosines + gradient) * kReal + (unit + cosine_factors) * kFactor;
    }
    int64_t bytes(int64_t workers) const {
      return workers * worker_bytes() + (kept + chunk_statistics + lane_grads) * kReal + embeddings * kFactor;
    }
  };
  // For so many samples of so many numbers and so many rows. `update_rows`: the rows' gradients go to a rule;
  // `backward_follows` and `keep_bytes` as below.
  static Sizes SizesFor(const Pieces& pieces, int64_t samples, int64_t width, int64_t rows,
                        bool backward_follows, bool update_rows, int64_t keep_bytes);

  // Bytes of cosines that may be kept from Forward for Backward, which makes the others again.
  explicit StreamingSoftmax(int64_t keep_bytes) : keep_bytes_(keep_bytes) {}

  // `statistics` [3, samples], of this rank's rows alone: of each sample the largest logit, the sum of the
  // exponentials less it, and the own class's logit less it, or kNotHere. `backward_follows`: whether to keep
  // cosines.
  void Forward(const Context& ctx, const Batch& batch, bool backward_follows, Tensor* statistics);

  // With the first two statistics over all ranks; the gradient of a logit is loss_grad / samples * (p - 1
  // where it is the own, else p), with a loss_grad that lies on the device. `embedding_grad` [samples,
  // width], of this rank's rows, with regard to the unit embeddings; null: not wanted. The rows' gradients go
  // to `row_grad` [count, width], or, where it is null, to batch.rule; where both are, nowhere. Chunks that
  // together hold less than 2^-24 of every sample's probability, less than the rounding of p - 1 in float32,
  // are skipped on the CPU: their rows have gradient zero.
  void Backward(const Context& ctx, const Batch& batch, const Tensor& statistics, const T* loss_grad,
                Tensor* embedding_grad, T* row_grad);

  const StreamingTimes& times() const { return times_; }
  void ResetTimes() { times_ = {}; }
  int64_t bytes() const;  // of its own memory, as the last passes needed it

 private:
  static constexpr int64_t kReal = sizeof(T), kFactor = sizeof(F);
  static constexpr bool kRounds = !std::is_same_v<T, F>;

  // What one thread needs for a chunk.
  struct Worker {
    Tensor unit, inverse_norm, gradient, cosines;  // of a chunk's rows; [samples, rows of a chunk]
    Tensor cosine_factors;                         // like cosines, where products round their factors
    StreamingTimes times;
    // The gradients of `cosines` as factors, which lie in their place where they need no rounding.
    F* CosineFactors(T* of_cosines) {
      if constexpr (kRounds) return cosine_factors.template data<F>();
      if constexpr (!kRounds) return of_cosines;
    }
  };

  const Tensor& Embeddings(const Batch& batch) const { return kRounds ? embeddings_ : *batch.embeddings; }
  Sizes Prepare(const Context& ctx, const Batch& batch, bool backward_follows, bool update_rows);
  void Score(const Context& ctx, const Batch& batch, int64_t chunk, Worker* worker, T* cosines);
  void ForwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, bool keep, Worker* worker);
  void BackwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, const T* statistics,
                     const T* loss_grad, Worker* worker, T* lane_grad, T* row_grad);
  bool Skips(const Context& ctx, const Batch& batch, int64_t chunk, const T* statistics) const;

  int64_t LaneBegin(int64_t lane) const { return lane * chunks_ / pieces_.lanes; }

  int64_t keep_bytes_;
  Pieces pieces_;
  int64_t samples_ = 0, width_ = 0, chunks_ = 0, kept_chunks_ = 0;
  std::vector<Worker> workers_;
  Tensor kept_;              // cosines of the first chunks
  Tensor chunk_statistics_;  // [chunks, 2, samples]: largest logit, sum
  Tensor lane_grads_;        // [lanes, samples, width]
  Tensor embeddings_;        // of the last Forward, rounded; empty where products do not round
  StreamingTimes times_;
};

}  // namespace crema
