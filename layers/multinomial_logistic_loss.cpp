// MultinomialLogisticLoss: the mean of -log p[label] over the global batch, p the probabilities of the
// classes, none below 1e-20.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T>
struct OwnProbability {
  ScoreAt<T> probability;
  Labels label;
  CREMA_HD T operator()(int64_t row) const {
    const T p = probability(row, label[row]);
    return p > T(1e-20) ? p : T(1e-20);
  }
};

template <class T>
struct LogisticLossEach {
  OwnProbability<T> own;
  double* out;
  CREMA_HD void operator()(int64_t row) const { out[row] = -log(static_cast<double>(own(row))); }
};

template <class T>
struct LogisticLossGrad {
  OwnProbability<T> own;
  const T* loss_weight;
  const double* divisor;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const ClassAxis& axis = own.probability.axis;
    const int64_t row = axis.row(i);
    const bool is_own = own.label[row] == axis.class_of(i);
    dx[i] = is_own ? static_cast<T>(-static_cast<double>(loss_weight[0]) / *divisor) / own(row) : T(0);
  }
};

struct MultinomialLogisticLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    axis_ = SampleClasses(*this, *bottom[0], *bottom[1]);
    top[0]->Reshape(bottom[0]->dtype(), {});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    CheckedLabels(*this, *bottom[1], axis_, std::nullopt);
    Tensor losses(*ctx.device, DType::kF64, {axis_.rows()});
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      ForEach(ctx, axis_.rows(), LogisticLossEach<T>{Own<T>(bottom), losses.data<double>()});
    });
    mean_.Write(ctx, losses, {.samples = axis_.outer}, LossParameter::BATCH_SIZE, 1, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(),
              LogisticLossGrad<T>{Own<T>(bottom), top[0]->grad<T>(), mean_.divisor(), x.grad<T>()});
    });
  }

 private:
  template <class T>
  OwnProbability<T> Own(const Blobs& bottom) const {
    return {{bottom[0]->data<T>(), axis_}, LabelsOf(*bottom[1])};
  }

  ClassAxis axis_;
  LossMean mean_;
};

CREMA_REGISTER_LAYER(MultinomialLogisticLoss);

}  // namespace
}  // namespace crema
