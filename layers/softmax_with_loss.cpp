// SoftmaxWithLoss: the mean of -log softmax(scores)[label] over the global batch; loss_param's normalization
// says what the mean divides by. A second top holds the softmax.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T>
struct SoftmaxLossTerm {
  ScoreAt<T> score;
  const T *largest, *sum;
  Labels label;
  bool has_ignored;
  int64_t ignored;
  CREMA_HD bool counts(int64_t row) const { return !has_ignored || label[row] != ignored; }
  CREMA_HD T operator()(int64_t row) const {
    return counts(row) ? log(sum[row]) - (score(row, label[row]) - largest[row]) : T(0);
  }
};

template <class T>
struct SoftmaxLossEach {
  SoftmaxLossTerm<T> term;
  double* out;
  CREMA_HD void operator()(int64_t row) const { out[row] = static_cast<double>(term(row)); }
};

template <class T>
struct SoftmaxLossGrad {
  SoftmaxLossTerm<T> term;
  const T* loss_weight;
  const double* divisor;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const ClassAxis& axis = term.score.axis;
    const int64_t row = axis.row(i);
    if (!term.counts(row)) {
      dx[i] = 0;
      return;
    }
    const T p = SoftmaxAt<T>{term.score, term.largest, term.sum}(i);
    dx[i] = static_cast<T>(static_cast<double>(loss_weight[0]) / *divisor) *
            (term.label[row] == axis.class_of(i) ? p - 1 : p);
  }
};

struct SoftmaxWithLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    axis_ = ClassAxisOf(*bottom[0], spec().softmax_param().axis());
    Check(axis_.classes > 0, "bottom '", bottom[0]->name(), "' of shape ", ToString(bottom[0]->shape()),
          " has no classes");
    Check(bottom[1]->count() == axis_.rows(), "bottom '", bottom[1]->name(), "' has ", bottom[1]->count(),
          " labels where ", axis_.rows(), " were expected: one for each row of scores in '",
          bottom[0]->name(), "' (", ToString(bottom[0]->shape()), ")");
    top[0]->Reshape(bottom[0]->dtype(), {});
    if (top.size() > 1) top[1]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    int64_t valid = 0;
    for (int64_t label : CheckedLabels(*this, *bottom[1], axis_, Ignored())) {
      if (label != Ignored()) ++valid;
    }
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      statistics_ = SoftmaxStatistics(ctx, ScoreAt<T>{bottom[0]->data<T>(), axis_});
      const SoftmaxLossTerm<T> term = Term<T>(bottom);
      Tensor losses(*ctx.device, DType::kF64, {axis_.rows()});
      ForEach(ctx, axis_.rows(), SoftmaxLossEach<T>{term, losses.data<double>()});
      mean_.Write(ctx, losses, {axis_.outer, axis_.rows(), valid},
                  NormalizationOf(options(), LossParameter::VALID), 1, top[0]);
      if (top.size() > 1)
        ForEach(ctx, bottom[0]->count(),
                WriteSoftmax<T>{{term.score, term.largest, term.sum}, top[1]->data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    if (!x.needs_grad()) return;
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(),
              SoftmaxLossGrad<T>{Term<T>(bottom), top[0]->grad<T>(), mean_.divisor(), x.grad<T>()});
    });
  }

 private:
  const LossParameter& options() const { return spec().loss_param(); }
  std::optional<int64_t> Ignored() const {
    return options().has_ignore_label() ? std::optional<int64_t>(options().ignore_label()) : std::nullopt;
  }

  template <class T>
  SoftmaxLossTerm<T> Term(const Blobs& bottom) {
    const T* largest = statistics_.data<T>();
    return {{bottom[0]->data<T>(), axis_}, largest,
            largest + axis_.rows(),        LabelsOf(*bottom[1]),
            Ignored().has_value(),         Ignored().value_or(0)};
  }

  ClassAxis axis_;
  Tensor statistics_;  // SoftmaxStatistics of the last Forward
  LossMean mean_;
};

CREMA_REGISTER_LAYER(SoftmaxWithLoss, "loss_param", "softmax_param");

}  // namespace
}  // namespace crema
