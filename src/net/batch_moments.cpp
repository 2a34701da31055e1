#include "net/batch_moments.hpp"

#include "crema/parallel.hpp"

namespace crema {

namespace {

// The first element of each channel: sums of offsets from it lose nothing to a large mean.
template <class T, class S>
struct FirstOfChannel {
  const S* x;
  Channel order;
  T* first;
  CREMA_HD void operator()(int64_t c) const { first[c] = static_cast<T>(x[order.at(0, c, 0)]); }
};

template <class T, class S>
struct MomentTerms {
  const S* x;
  const T* first;
  CREMA_HD Pair<T> operator()(int64_t i, int64_t c) const {
    const T offset = static_cast<T>(x[i]) - first[c];
    return {offset, offset * offset};
  }
};

template <class T>
struct FinishMoments {  // `mean` holds the first elements before
  const Pair<T>* sums;
  T *mean, *inverse_std, *running_mean, *running_variance;
  double count, fraction, eps;
  CREMA_HD void operator()(int64_t c) const {
    const double offset = static_cast<double>(sums[c].first) / count;
    double variance = static_cast<double>(sums[c].second) / count - offset * offset;
    variance = variance > 0 ? variance : 0;
    const double m = static_cast<double>(mean[c]) + offset;
    mean[c] = static_cast<T>(m);
    inverse_std[c] = static_cast<T>(1 / sqrt(variance + eps));
    const double correction = count > 1 ? count / (count - 1) : 1;
    running_mean[c] = static_cast<T>(static_cast<double>(running_mean[c]) * fraction + m);
    running_variance[c] =
        static_cast<T>(static_cast<double>(running_variance[c]) * fraction + correction * variance);
  }
};

template <class T>
struct DecayFactor {
  T* factor;
  double fraction;
  CREMA_HD void operator()(int64_t) const {
    *factor = static_cast<T>(static_cast<double>(*factor) * fraction + 1);
  }
};

// Before the first batch there are no statistics: the mean counts as 0 and the variance as 1. (Caffe takes a
// variance of 0, with which a net of many layers overflows when it is tested before it is trained.)
template <class T>
struct RunningMoments {
  const T *running_mean, *running_variance, *factor;
  T *mean, *inverse_std;
  double eps;
  CREMA_HD void operator()(int64_t c) const {
    const bool none = *factor == T(0);
    const double scale = none ? 0 : 1 / static_cast<double>(*factor);
    const double variance = none ? 1 : scale * static_cast<double>(running_variance[c]);
    mean[c] = static_cast<T>(scale * static_cast<double>(running_mean[c]));
    inverse_std[c] = static_cast<T>(1 / sqrt(variance + eps));
  }
};

}  // namespace

void BatchMoments::Allocate(const Context& ctx, DType dtype, int64_t channels) {
  if (!mean.empty() && mean.count() == channels && mean.dtype() == dtype) return;
  mean = Tensor(*ctx.device, dtype, {channels});
  inverse_std = Tensor(*ctx.device, dtype, {channels});
}

void BatchMoments::StartBatch(const Context& ctx, Blob& x, std::vector<std::shared_ptr<Param>>& params,
                              double fraction) {
  const DType real = params[0]->dtype;
  Allocate(ctx, real, x.channels());
  sums_ = Tensor(*ctx.device, real, {x.channels(), 2});
  sums_.Zero();
  ForReal(real, [&]<class T>() { ForEach(ctx, 1, DecayFactor<T>{params[2]->data<T>(), fraction}); });
}

void BatchMoments::OfPart(const Context& ctx, Blob& x, const Groups& part,
                          std::vector<std::shared_ptr<Param>>& params, double fraction, double eps) {
  const Channel order = x.channel();
  const double count = static_cast<double>(order.outer * order.inner);
  ForBlob(x.dtype(), [&]<class T, class S>() {
    Pair<T>* pairs = reinterpret_cast<Pair<T>*>(sums_.data<T>());
    ForEachChannel(ctx, order, part, FirstOfChannel<T, S>{x.data<S>(), order, mean.data<T>()});
    ColumnReduce(ctx, order, part, MomentTerms<T, S>{x.data<S>(), mean.data<T>()}, pairs);
    ForEachChannel(ctx, order, part,
                   FinishMoments<T>{pairs, mean.data<T>(), inverse_std.data<T>(), params[0]->data<T>(),
                                    params[1]->data<T>(), count, fraction, eps});
  });
}

void BatchMoments::OfBatch(const Context& ctx, Blob& x, std::vector<std::shared_ptr<Param>>& params,
                           double fraction, double eps) {
  StartBatch(ctx, x, params, fraction);
  OfPart(ctx, x, {0, x.channel().groups}, params, fraction, eps);
}

void BatchMoments::OfRunning(const Context& ctx, std::vector<std::shared_ptr<Param>>& params, double eps) {
  const int64_t channels = params[0]->value.count();
  Allocate(ctx, params[0]->dtype, channels);
  ForReal(params[0]->dtype, [&]<class T>() {
    ForEach(ctx, channels,
            RunningMoments<T>{params[0]->data<T>(), params[1]->data<T>(), params[2]->data<T>(),
                              mean.data<T>(), inverse_std.data<T>(), eps});
  });
}

}  // namespace crema
