// Floor 4. Class scores, and their labels, along one axis of a blob. Called by the layers that classify.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {

// Scores [outer, classes, inner]: one row of scores for each of the outer * inner positions.
struct ClassAxis {
  int64_t outer = 0, classes = 0, inner = 0;
  CREMA_HD int64_t rows() const { return outer * inner; }
  CREMA_HD int64_t at(int64_t row, int64_t k) const {
    return (row / inner * classes + k) * inner + row % inner;
  }
  // Row and class of element i.
  CREMA_HD int64_t row(int64_t i) const { return i / (classes * inner) * inner + i % inner; }
  CREMA_HD int64_t class_of(int64_t i) const { return i / inner % classes; }
};

inline ClassAxis ClassAxisOf(const Blob& scores, int64_t axis) {
  axis = scores.Axis(axis);
  return {scores.count(0, axis), scores.dim(axis), scores.count(axis + 1)};
}

// All numbers of a sample as its classes. Throws Error, naming the layer, where there are none, or not one
// label for each sample.
ClassAxis SampleClasses(const Layer& layer, const Blob& scores, const Blob& label);

template <class T>
struct ScoreAt {
  const T* score;
  ClassAxis axis;
  CREMA_HD T operator()(int64_t row, int64_t k) const { return score[axis.at(row, k)]; }
};

template <class T>
struct ExponentialAt {  // of a score less the largest of its row
  ScoreAt<T> score;
  const T* largest;
  CREMA_HD T operator()(int64_t row, int64_t k) const { return exp(score(row, k) - largest[row]); }
};

// Largest score of each row, and the sum of the exponentials of the scores less it: [2, rows].
template <class T>
Tensor SoftmaxStatistics(const Context& ctx, const ScoreAt<T>& score) {
  const int64_t rows = score.axis.rows();
  Tensor statistics(*ctx.device, DTypeOf<T>(), {2, rows});
  T *largest = statistics.data<T>(), *sum = largest + rows;
  RowReduce<Reduce::kMax>(ctx, rows, score.axis.classes, score, largest);
  RowReduce<Reduce::kSum>(ctx, rows, score.axis.classes, ExponentialAt<T>{score, largest}, sum);
  return statistics;
}

// The softmax of element i among its row.
template <class T>
struct SoftmaxAt {
  ScoreAt<T> score;
  const T *largest, *sum;  // SoftmaxStatistics
  CREMA_HD T operator()(int64_t i) const {
    const int64_t row = score.axis.row(i);
    return exp(score.score[i] - largest[row]) / sum[row];
  }
};

template <class T>
struct WriteSoftmax {
  SoftmaxAt<T> softmax;
  T* out;
  CREMA_HD void operator()(int64_t i) const { out[i] = softmax(i); }
};

// The labels on the host. Throws Error, naming the layer, unless there is one label for each row, each of
// them a class or the ignored one.
std::vector<int64_t> CheckedLabels(const Layer& layer, const Blob& label, const ClassAxis& axis,
                                   std::optional<int64_t> ignored);

// Writes one real number into a scalar blob.
void WriteScalar(double value, Blob* scalar);

}  // namespace crema
