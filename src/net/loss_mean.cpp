#include "net/loss_mean.hpp"

#include <algorithm>

#include "net/class_scores.hpp"

namespace crema {

namespace {

int64_t Divisor(const LossCounts& counts, LossParameter::NormalizationMode mode) {
  switch (mode) {
    case LossParameter::FULL:
      return counts.positions;
    case LossParameter::VALID:
      return counts.valid;
    case LossParameter::BATCH_SIZE:
      return counts.samples;
    case LossParameter::NONE:
      break;
  }
  return 0;
}

}  // namespace

LossParameter::NormalizationMode NormalizationOf(const LossParameter& options,
                                                 LossParameter::NormalizationMode otherwise) {
  if (options.has_normalization()) return options.normalization();
  if (options.has_normalize()) return options.normalize() ? LossParameter::VALID : LossParameter::BATCH_SIZE;
  return otherwise;
}

LossMean MeanOverRanks(const Context& ctx, double sum, const LossCounts& counts,
                       LossParameter::NormalizationMode mode) {
  const std::vector<double> sums = SumOverRanks(ctx, {sum, static_cast<double>(Divisor(counts, mode))});
  const double divisor = std::max(1.0, sums[1]);
  return {sums[0] / divisor, divisor};
}

double HostSum(const Tensor& numbers) {
  double sum = 0;
  for (double number : numbers.ToHost<double>()) sum += number;
  return sum;
}

}  // namespace crema
