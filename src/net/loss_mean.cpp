#include "net/loss_mean.hpp"

#include "crema/parallel.hpp"

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

struct LossTerms {
  const double* terms;
  CREMA_HD double operator()(int64_t, int64_t k) const { return terms[k]; }
};

template <class T>
struct WriteMean {
  double* sums;
  double factor;
  T* top;
  CREMA_HD void operator()(int64_t) const {
    sums[1] = sums[1] > 1 ? sums[1] : 1;
    *top = static_cast<T>(factor * sums[0] / sums[1]);
  }
};

void SumTerms(const Context& ctx, const Tensor& terms, double* sum) {
  RowReduce<Reduce::kSum>(ctx, 1, terms.count(), LossTerms{terms.data<double>()}, sum);
}

}  // namespace

LossParameter::NormalizationMode NormalizationOf(const LossParameter& options,
                                                 LossParameter::NormalizationMode otherwise) {
  if (options.has_normalization()) return options.normalization();
  if (options.has_normalize()) return options.normalize() ? LossParameter::VALID : LossParameter::BATCH_SIZE;
  return otherwise;
}

void LossMean::Write(const Context& ctx, const Tensor& terms, const LossCounts& counts,
                     LossParameter::NormalizationMode mode, double factor, Blob* top) {
  sums_ = Tensor(*ctx.device, DType::kF64, {2});
  double* sums = sums_.data<double>();
  SumTerms(ctx, terms, sums);
  if (mode == LossParameter::VALID && !counts.valid_terms.empty()) {
    SumTerms(ctx, counts.valid_terms, sums + 1);
  } else {
    ForEach(ctx, 1, SetTo<double>{sums + 1, static_cast<double>(Divisor(counts, mode))});
  }
  ctx.comm->AllReduce(&sums_, Reduce::kSum);
  ForReal(top->dtype(), [&]<class T>() { ForEach(ctx, 1, WriteMean<T>{sums, factor, top->data<T>()}); });
}

}  // namespace crema
