// Floor 3, the head wing: how classes are spread over ranks, which of them take part in an iteration, how
// their rows are updated, and the margins. Called by the layers DistPartialFC and MarginSoftmax, and by the
// layer that stands for both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "crema.pb.h"
#include "crema/context.hpp"

namespace crema {

// A contiguous range of classes [first, first + rows), owned by one rank.
struct Shard {
  int64_t first = 0, rows = 0;
  bool owns(int64_t c) const { return c >= first && c < first + rows; }
};

// The first `classes` mod `ranks` ranks own one class more than the others.
Shard ShardOf(int64_t classes, int ranks, int rank);

// Which classes take part in an iteration: those of the batch, and others drawn uniformly without replacement
// until `rate` of all classes are reached (An et al., arXiv 2203.15565, section 3). The draw is made in cells
// of kCell classes, each filled to its share by the first entries of a keyed permutation of the cell; it is a
// pure function of (key, iteration, labels), so every rank computes its own part of the same global draw,
// however many ranks there are, in time proportional to the rows drawn.
class ClassDraw {
 public:
  static constexpr int64_t kCell = 1 << 14;

  // rate in [0, 1]; 0 draws the batch's classes only. The others are drawn in runs of `block` neighbours, a
  // power of two up to kCell; the last run of a cell is cut, at a random place, to what is missing.
  ClassDraw(uint64_t key, int64_t classes, double rate, int64_t block = 1)
      : key_(key), classes_(classes), rate_(rate), block_(block) {}

  // Whether every row takes part, whatever the labels.
  bool DrawsAll() const { return rate_ >= 1; }
  // Rows of the shard (numbered from its first class), sorted. `labels`: classes of the whole global batch.
  std::vector<int64_t> Draw(const Shard& shard, int64_t iteration, std::vector<int64_t> labels) const;
  // The most rows that Draw returns for a global batch of so many samples.
  int64_t MostRows(const Shard& shard, int64_t batch) const;

 private:
  int64_t Share(int64_t cell) const;  // classes to reach in a cell
  int64_t CellEnd(int64_t cell) const { return std::min((cell + 1) * kCell, classes_); }

  uint64_t key_;
  int64_t classes_;
  double rate_;
  int64_t block_;
};

// The margin on a sample's own class: cos(theta) becomes cos(m1 theta + m2) - m3 (ArcFace, Deng et al., arXiv
// 1801.07698, equation 4). Past pi, where the cosine would rise again, it goes on falling: for m1 = 1 as
// cos(theta) - m2 sin(m2) - m3 (insightface's rule), else as (-1)^k cos(phi) - 2 k - m3 with k = floor(phi /
// pi) (SphereFace, Liu et al., arXiv 1704.08063, equation 7).
struct Margin {
  double m1 = 1, m2 = 0, m3 = 0;
  bool easy = false;              // only where cos > 0
  bool straight_through = false;  // Derivative is 1

  CREMA_HD bool applies(double cosine) const { return !easy || cosine > 0; }
  CREMA_HD double Value(double cosine) const {
    if (!applies(cosine)) return cosine;
    if (m1 == 1 && m2 == 0) return cosine - m3;
    const double phi = m1 * acos(Clamp(cosine, 1)) + m2;
    if (phi <= kPi) return cos(phi) - m3;
    if (m1 == 1) return cosine - m2 * sin(m2) - m3;
    const double k = floor(phi / kPi);
    return Sign(k) * cos(phi) - 2 * k - m3;
  }
  // d Value / d cosine. Near +-1, where it is infinite, that of the nearest cosine with a sine of 0.001.
  CREMA_HD double Derivative(double cosine) const {
    if (straight_through || !applies(cosine) || (m1 == 1 && m2 == 0)) return 1;
    const double c = Clamp(cosine, 1 - 5e-7), theta = acos(c), phi = m1 * theta + m2;
    if (phi > kPi && m1 == 1) return 1;
    return Sign(floor(phi / kPi)) * m1 * sin(phi) / sqrt(1 - c * c);
  }

 private:
  static constexpr double kPi = 3.14159265358979323846;
  CREMA_HD static double Clamp(double x, double limit) { return x > limit ? limit : x < -limit ? -limit : x; }
  CREMA_HD static double Sign(double k) { return static_cast<int64_t>(k) % 2 == 0 ? 1 : -1; }
};

// What MarginSoftmax makes of a cosine. Suspected label noise, a cosine above the threshold to another class
// than the sample's own, is filtered: it has no gradient, and its logit is -1e30 (removed from the softmax)
// or 0 (arcface_torch's rule, which leaves exp(0) in the denominator).
template <class T>
struct MarginLogit {
  T scale, threshold;  // a threshold of 1 or more filters nothing
  bool removes;
  Margin margin;

  CREMA_HD bool Filters(T cosine) const { return cosine > threshold; }
  CREMA_HD T Own(T cosine) const {
    return static_cast<T>(static_cast<double>(scale) * margin.Value(static_cast<double>(cosine)));
  }
  CREMA_HD T Other(T cosine) const { return Filters(cosine) ? (removes ? T(-1e30) : T(0)) : scale * cosine; }
  // Derivatives by the cosine.
  CREMA_HD T OwnSlope(T cosine) const {
    return static_cast<T>(static_cast<double>(scale) * margin.Derivative(static_cast<double>(cosine)));
  }
  CREMA_HD T OtherSlope(T cosine) const { return Filters(cosine) ? T(0) : scale; }
};

template <class T>
MarginLogit<T> MarginLogitOf(const MarginSoftmaxParameter& options) {
  const float threshold = options.interclass_filter_threshold();
  return {static_cast<T>(options.scale()),
          threshold < 1 ? static_cast<T>(threshold) : static_cast<T>(1e30),
          options.filter() == MarginSoftmaxParameter::REMOVE,
          {options.m1(), options.m2(), options.m3(), options.easy_margin(),
           options.gradient() == MarginSoftmaxParameter::STRAIGHT_THROUGH}};
}

// What an optimiser keeps with a weight is at most so many tensors of its shape.
constexpr int kMostSlots = 2;

// Rows of a weight that are worked on together: which they are, by local numbers, and where they lie.
struct RowSet {
  const int64_t* rows = nullptr;  // sorted; null: [first, first + count)
  int64_t first = 0, count = 0;
  // Copies one after the other, of the weight and of RowRule::State(); null: where these are.
  void* value = nullptr;
  void* state[kMostSlots] = {};

  CREMA_HD bool staged() const { return value != nullptr; }
  // The number of row k of them.
  CREMA_HD int64_t Row(int64_t k) const { return rows != nullptr ? rows[k] : first + k; }
};

// How the rows of a row-sparse weight are kept up to date; the optimiser provides it. Calls on different rows
// may run at the same time.
class RowRule {
 public:
  virtual ~RowRule() = default;
  // Whether a row may be updated as soon as its gradient is known. It may not where all gradients of the
  // iteration are needed first: to clip their common norm, or to add up the passes of iter_size.
  virtual bool immediate() const = 0;
  // Whether every iteration has one pass, so that the rows drawn for it are those that are updated at its
  // end.
  virtual bool one_pass() const = 0;
  // Does what earlier iterations left undone on rows that had no gradient then (update: ALL_ROWS). To be
  // called before the rows are read.
  virtual void CatchUp(const Context& ctx, const RowSet& rows) = 0;
  // Whether it has anything to do.
  virtual bool catches_up() const = 0;
  // What is kept with the rows, of the weight's type and shape.
  virtual std::vector<Tensor> State() const = 0;
  // One step of each row, whose gradient is grad - along * row. `grad`: [count, width], `along`: [count], of
  // the context's real type; null: all zero. `loss`: the pass's, of that type too, on the device: where it is
  // not finite, which the host learns only after the pass, no row changes; null: they do.
  virtual void Update(const Context& ctx, const RowSet& rows, const void* grad, const void* along,
                      const void* loss) = 0;
};

}  // namespace crema
