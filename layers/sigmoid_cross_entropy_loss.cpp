// SigmoidCrossEntropyLoss: the sum of -t log p - (1 - t) log(1 - p), p = sigmoid(x), t the second bottom, by
// the number of samples of the global batch unless loss_param says otherwise.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/axis_part.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T, class Target>
struct CrossEntropyTerm {
  const T* x;
  const Target* target;
  int64_t dim;
  bool has_ignored;
  int64_t ignored;
  // As in Caffe, a target is ignored by its whole part.
  CREMA_HD bool counts(int64_t i) const { return !has_ignored || static_cast<int64_t>(target[i]) != ignored; }
  CREMA_HD double operator()(int64_t row, int64_t k) const {
    const int64_t i = row * dim + k;
    if (!counts(i)) return 0;
    const double v = static_cast<double>(x[i]), t = static_cast<double>(target[i]);
    return v >= 0 ? v * (1 - t) + log1p(exp(-v)) : log1p(exp(v)) - v * t;
  }
};

template <class T, class Target>
struct CrossEntropyCounts {
  CrossEntropyTerm<T, Target> term;
  CREMA_HD double operator()(int64_t row, int64_t k) const { return term.counts(row * term.dim + k) ? 1 : 0; }
};

template <class T, class Target>
struct CrossEntropyGrad {
  CrossEntropyTerm<T, Target> term;
  const T* loss_weight;
  const double* divisor;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const T p = T(0.5) * tanh(T(0.5) * term.x[i]) + T(0.5);
    dx[i] = term.counts(i) ? static_cast<T>(static_cast<double>(loss_weight[0]) / *divisor) *
                                 (p - static_cast<T>(term.target[i]))
                           : T(0);
  }
};

struct SigmoidCrossEntropyLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &x = *bottom[0], &target = *bottom[1];
    Check(x.axes() > 0 && x.num() == target.num() && x.count() == target.count(), "bottoms '", x.name(),
          "' (", ToString(x.shape()), ") and '", target.name(), "' (", ToString(target.shape()),
          ") found where two of one size were expected");
    top[0]->Reshape(x.dtype(), {});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob& x = *bottom[0];
    const auto mode = NormalizationOf(spec().loss_param(), LossParameter::BATCH_SIZE);
    Tensor losses(*ctx.device, DType::kF64, {x.num()}), valid;
    WithTerm(bottom, [&]<class T, class Target>(const CrossEntropyTerm<T, Target>& term) {
      RowReduce<Reduce::kSum>(ctx, x.num(), x.count(1), term, losses.data<double>());
      if (!term.has_ignored || mode != LossParameter::VALID) return;
      valid = Tensor(*ctx.device, DType::kF64, {x.num()});
      RowReduce<Reduce::kSum>(ctx, x.num(), x.count(1), CrossEntropyCounts<T, Target>{term},
                              valid.data<double>());
    });
    mean_.Write(ctx, losses, {x.num(), x.count(), x.count(), valid}, mode, 1, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    WithTerm(bottom, [&]<class T, class Target>(const CrossEntropyTerm<T, Target>& term) {
      ForEach(ctx, x.count(),
              CrossEntropyGrad<T, Target>{term, top[0]->template grad<T>(), mean_.divisor(),
                                          x.template grad<T>()});
    });
  }

 private:
  // f of the terms, whatever the types of scores and targets.
  template <class F>
  void WithTerm(const Blobs& bottom, const F& f) const {
    const LossParameter& options = spec().loss_param();
    Blob &x = *bottom[0], &target = *bottom[1];
    ForReal(x.dtype(), [&]<class T>() {
      ForRealOrLabel(target.dtype(), [&]<class Target>() {
        f(CrossEntropyTerm<T, Target>{x.data<T>(), target.data<Target>(), x.count(1),
                                      options.has_ignore_label(), options.ignore_label()});
      });
    });
  }

  LossMean mean_;
};

CREMA_REGISTER_LAYER(SigmoidCrossEntropyLoss, "loss_param");

}  // namespace
}  // namespace crema
