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
  // `samples`: of the global batch, of `width` numbers each; the more they are, the fewer runs.
  static Pieces On(const Device& device, int64_t samples, int64_t width);
};

// In T; F is the type of the factors of all products, T or, for centres of bfloat16 on a device that
// multiplies it fast, bfloat16: unit embeddings, and the gradients of cosines, are then rounded to it.
// Centres are multiplied as they are, where they lie if they are all scored, and the products scaled by their
// norms.
template <class T, class F = T>
class StreamingSoftmax {
 public:
  // What one pass works on; the pointers stay valid from Forward to Backward.
  struct Batch {
    const Tensor* centres = nullptr;  // [rows of the shard, width]
    bool staged = false;              // of these only the rows that are scored, one after the other
    bool on_host = false;             // they lie in the host's memory though the device has its own
    FileMemory* memory = nullptr;     // that the centres lie in, and the state; null: the device's
    RowRule* rule = nullptr;          // may be null: rows need no catching up, and are not updated here
    std::vector<Tensor> state;        // the rule's, for the same rows as the centres
    const T* loss = nullptr;          // for the rule
    const int64_t* rows = nullptr;    // those that are scored, sorted; null: [0, count)
    int64_t count = 0;
    const Tensor* embeddings = nullptr;  // [samples, width], at unit length
    const int64_t* position = nullptr;   // of each sample's class among the rows; -1 where it is not here;
                                         // on the device
    MarginLogit<T> logit;
  };

  // What the buffers that it works with depend on.
  struct Case {
    int64_t samples = 0, width = 0, rows = 0;
    bool copies_rows = false;   // as CopiesRows says
    bool backward = false;      // a backward pass follows, or is it
    bool updates_rows = false;  // their gradients go to a rule
    int64_t staged_bytes = 0;   // of a row and its state, where they are read from a file
  };
  // Elements of those buffers.
  struct Sizes {
    int64_t rows = 0, products = 0, factors = 0, along = 0, gradient = 0;  // of each worker, for a chunk
    int64_t staged_bytes = 0;                                              // of each worker
    int64_t chunks = 0, kept_chunks = 0;                                   // of classes; with products kept
    int64_t kept = 0, inverse_norms = 0, chunk_statistics = 0, lane_grads = 0;  // of all
    int64_t embeddings = 0;                                                     // as factors
    int64_t worker_bytes() const {
      return (products + along + gradient) * kReal + (rows + factors) * kFactor + staged_bytes;
    }
    int64_t bytes(int64_t workers) const {
      return workers * worker_bytes() + (kept + inverse_norms + chunk_statistics + lane_grads) * kReal +
             embeddings * kFactor;
    }
  };
  // Whether rows have to be copied: unless they are of F and lie `together` in the device's memory, one after
  // the other, because all are scored or because they are brought there.
  static bool CopiesRows(bool together, DType stored) { return stored != DTypeOf<F>() || !together; }
  static Sizes SizesFor(const Pieces& pieces, const Case& of, int64_t keep_bytes);

  // Bytes of products that may be kept from Forward for Backward, which makes the others again.
  explicit StreamingSoftmax(int64_t keep_bytes) : keep_bytes_(keep_bytes) {}

  // `statistics` [3, samples], of this rank's rows alone: of each sample the largest logit, the sum of the
  // exponentials less it, and the own class's logit less it, or kNotHere. `backward_follows`: whether to keep
  // products.
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
    Tensor value, state[kMostSlots];  // of the rows, from their file; [rows, width]
    Tensor rows;                      // copied together
    Tensor products, factors;         // [samples, rows]
    Tensor along, gradient;           // of the rows
    StreamingTimes times;
  };

  static bool CopiesRows(const Batch& batch) {
    const bool brought = batch.staged || batch.memory != nullptr;
    return CopiesRows(brought || (batch.rows == nullptr && !batch.on_host), batch.centres->dtype());
  }
  RowSet RowsOf(const Batch& batch, int64_t chunk) const;
  void Bring(const Batch& batch, bool state, Worker* worker, RowSet* set) const;
  void PutBack(const Batch& batch, const RowSet& set) const;
  const Tensor& Embeddings(const Batch& batch) const { return kRounds ? embeddings_ : *batch.embeddings; }
  Sizes Prepare(const Context& ctx, const Batch& batch, bool backward, bool updates_rows);
  const F* Factor(const Context& ctx, const Batch& batch, int64_t chunk, const RowSet& set, Worker* worker);
  void Multiply(const Context& ctx, const Batch& batch, const F* rows, int64_t count, T* products) const;
  void ForwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, bool keep, Worker* worker);
  void BackwardChunk(const Context& ctx, const Batch& batch, int64_t chunk, const T* statistics,
                     const T* loss_grad, Worker* worker, T* lane_grad, T* row_grad);
  bool Skips(const Context& ctx, const Batch& batch, int64_t chunk, const T* statistics) const;

  int64_t LaneBegin(int64_t lane) const { return lane * chunks_ / pieces_.lanes; }

  int64_t keep_bytes_;
  Pieces pieces_;
  int64_t samples_ = 0, width_ = 0, chunks_ = 0, kept_chunks_ = 0;
  std::vector<Worker> workers_;
  bool measured_ = false;    // inverse_norms_ are there
  Tensor kept_;              // products of the first chunks
  Tensor inverse_norms_;     // of all rows that are scored
  Tensor chunk_statistics_;  // [chunks, 2, samples]: largest logit, sum
  Tensor lane_grads_;        // [lanes, samples, width]
  Tensor embeddings_;        // of the last Forward, rounded; empty where products do not round
  StreamingTimes times_;
};

}  // namespace crema
