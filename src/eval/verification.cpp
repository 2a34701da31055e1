#include <algorithm>
#include <cmath>
#include <numeric>

#include "crema/eval.hpp"

namespace crema {
namespace {

constexpr int64_t kThresholds = 400;
constexpr double kThresholdStep = 0.01;
// A rate that went through a float, such as 1e-2f, is still the rate that was written.
constexpr double kRounding = 1e-6;

// Pairs that are judged rightly at each threshold.
using RightCounts = std::vector<int64_t>;

// The first threshold above a distance, kThresholds where there is none.
int64_t FirstAccepting(double distance) {
  int64_t index = static_cast<int64_t>(std::floor(distance / kThresholdStep));
  index = std::clamp<int64_t>(index - 1, 0, kThresholds);
  while (index < kThresholds && !(distance < static_cast<double>(index) * kThresholdStep)) ++index;
  return index;
}

// right[f][t]: pairs of fold f that are judged rightly by "distance < t * step".
std::vector<RightCounts> CountRight(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                                    const std::vector<int64_t>& fold, int64_t folds) {
  std::vector<RightCounts> right(static_cast<size_t>(folds), RightCounts(kThresholds, 0));
  for (size_t i = 0; i < distance.size(); ++i) {
    RightCounts& counts = right[static_cast<size_t>(fold[i])];
    // Steps now, running sums below: a different pair is right from 0 on until it is accepted.
    const size_t accept = static_cast<size_t>(FirstAccepting(distance[i]));
    if (!same[i]) ++counts[0];
    if (accept < kThresholds) counts[accept] += same[i] ? 1 : -1;
  }
  for (RightCounts& counts : right) std::partial_sum(counts.begin(), counts.end(), counts.begin());
  return right;
}

size_t FirstBest(const RightCounts& counts) {
  return static_cast<size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());
}

int64_t CheckPairs(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                   const std::vector<int64_t>& fold) {
  Require(!distance.empty() && distance.size() == same.size() && distance.size() == fold.size(),
          "verification was given ", distance.size(), " distances, ", same.size(), " flags and ", fold.size(),
          " fold numbers where as many of each, and at least one, were expected");
  for (size_t i = 0; i < distance.size(); ++i) {
    Require(std::isfinite(distance[i]), "the distance of pair ", i, " is ", distance[i]);
    Require(fold[i] >= 0, "the fold of pair ", i, " is ", fold[i], " where 0 or more was expected");
  }
  return *std::max_element(fold.begin(), fold.end()) + 1;
}

void MeanAndDeviation(const std::vector<double>& values, double* mean, double* deviation) {
  const double n = static_cast<double>(values.size());
  *mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (double value : values) squares += (value - *mean) * (value - *mean);
  *deviation = std::sqrt(squares / n);
}

std::vector<RocPoint> MakeRoc(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                              const Verification& v) {
  std::vector<size_t> order(distance.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return distance[a] < distance[b]; });
  std::vector<RocPoint> roc = {{-1, 0, 0}};  // accepts nothing
  int64_t accepted[2] = {0, 0};
  for (size_t k = 0; k < order.size(); ++k) {
    ++accepted[same[order[k]] != 0];
    if (k + 1 < order.size() && distance[order[k + 1]] == distance[order[k]]) continue;
    roc.push_back({distance[order[k]],
                   static_cast<double>(accepted[0]) / static_cast<double>(v.different_pairs),
                   static_cast<double>(accepted[1]) / static_cast<double>(v.same_pairs)});
  }
  return roc;
}

double AreaUnder(const std::vector<RocPoint>& roc) {
  double area = 0;
  for (size_t k = 1; k < roc.size(); ++k)
    area += (roc[k].far - roc[k - 1].far) * (roc[k].tar + roc[k - 1].tar) / 2;
  return area;
}

double EqualErrorRate(const std::vector<RocPoint>& roc) {
  // far - (1 - tar) rises from -1 at the first point to 1 at the last.
  size_t k = 1;
  while (roc[k].far + roc[k].tar < 1) ++k;
  const double before = roc[k - 1].far + roc[k - 1].tar - 1, after = roc[k].far + roc[k].tar - 1;
  const double part = -before / (after - before);
  return roc[k - 1].far + part * (roc[k].far - roc[k - 1].far);
}

}  // namespace

void NormalizeRows(int64_t rows, int64_t columns, float* values) {
  for (int64_t row = 0; row < rows; ++row) {
    float* x = values + row * columns;
    double squares = 0;
    for (int64_t k = 0; k < columns; ++k) squares += static_cast<double>(x[k]) * static_cast<double>(x[k]);
    Require(std::isfinite(squares), "embedding ", row, " has a value that is not finite");
    if (squares == 0) continue;
    const double factor = 1 / std::sqrt(squares);
    for (int64_t k = 0; k < columns; ++k) x[k] = static_cast<float>(static_cast<double>(x[k]) * factor);
  }
}

std::vector<double> PairDistances(const std::vector<float>& embeddings, int64_t columns,
                                  const std::vector<FacePair>& pairs) {
  std::vector<double> distance;
  distance.reserve(pairs.size());
  for (const FacePair& pair : pairs) {
    const float* a = embeddings.data() + pair.first * columns;
    const float* b = embeddings.data() + pair.second * columns;
    double sum = 0;
    for (int64_t k = 0; k < columns; ++k) {
      const double difference = static_cast<double>(a[k]) - static_cast<double>(b[k]);
      sum += difference * difference;
    }
    distance.push_back(sum);
  }
  return distance;
}

Verification VerifyAccuracy(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                            const std::vector<int64_t>& fold) {
  Verification v;
  v.folds = CheckPairs(distance, same, fold);
  v.pairs = static_cast<int64_t>(distance.size());
  v.same_pairs = std::count_if(same.begin(), same.end(), [](uint8_t s) { return s != 0; });
  v.different_pairs = v.pairs - v.same_pairs;
  std::vector<int64_t> size(static_cast<size_t>(v.folds), 0);
  for (int64_t f : fold) ++size[static_cast<size_t>(f)];

  const std::vector<RightCounts> right = CountRight(distance, same, fold, v.folds);
  RightCounts all(kThresholds, 0);
  for (const RightCounts& counts : right)
    for (size_t t = 0; t < kThresholds; ++t) all[t] += counts[t];
  v.threshold = static_cast<double>(FirstBest(all)) * kThresholdStep;
  for (size_t f = 0; f < right.size(); ++f) {
    Require(size[f] > 0, "fold ", f, " of ", v.folds, " has no pairs");
    RightCounts others = all;
    if (v.folds > 1)
      for (size_t t = 0; t < kThresholds; ++t) others[t] -= right[f][t];
    const size_t best = FirstBest(others);
    v.fold_threshold.push_back(static_cast<double>(best) * kThresholdStep);
    v.fold_accuracy.push_back(static_cast<double>(right[f][best]) / static_cast<double>(size[f]));
  }
  MeanAndDeviation(v.fold_accuracy, &v.accuracy, &v.deviation);
  return v;
}

Verification Verify(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                    const std::vector<int64_t>& fold) {
  Verification v = VerifyAccuracy(distance, same, fold);
  Require(v.same_pairs > 0 && v.different_pairs > 0, "verification found ", v.same_pairs,
          " pairs of the same person and ", v.different_pairs,
          " of different people where both were expected");
  v.roc = MakeRoc(distance, same, v);
  v.auc = AreaUnder(v.roc);
  v.eer = EqualErrorRate(v.roc);
  return v;
}

std::optional<double> TarAtFar(const Verification& verification, double far) {
  if (verification.different_pairs < PairsForFar(far)) return std::nullopt;
  double tar = 0;
  for (const RocPoint& point : verification.roc) {
    if (point.far <= far * (1 + kRounding)) tar = point.tar;
  }
  return tar;
}

int64_t PairsForFar(double far) {
  Require(far > 0 && far <= 1, "the false accept rate ", far, " is not above 0 and at most 1");
  return static_cast<int64_t>(std::ceil(1 / (far * (1 + kRounding))));
}

}  // namespace crema
