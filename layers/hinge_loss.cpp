// HingeLoss: the mean over the global batch of each sample's sum of max(0, 1 - x) for its own class and
// max(0, 1 + x) for the others, squared for norm L2.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T>
struct HingeMargin {
  ScoreAt<T> score;
  Labels label;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const T margin = 1 + (label[row] == k ? -score(row, k) : score(row, k));
    return margin > 0 ? margin : T(0);
  }
};

template <class T>
struct HingeLossTerm {
  HingeMargin<T> margin;
  bool squared;
  CREMA_HD double operator()(int64_t row, int64_t k) const {
    const double value = static_cast<double>(margin(row, k));
    return squared ? value * value : value;
  }
};

template <class T>
struct HingeLossGrad {
  HingeMargin<T> margin;
  bool squared;
  const T* loss_weight;
  const double* divisor;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const ClassAxis& axis = margin.score.axis;
    const int64_t row = axis.row(i), k = axis.class_of(i);
    const T value = margin(row, k), slope = squared ? 2 * value : value > 0 ? T(1) : T(0);
    dx[i] = static_cast<T>(static_cast<double>(loss_weight[0]) / *divisor) *
            (margin.label[row] == k ? -slope : slope);
  }
};

struct HingeLoss final : Layer {
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
      RowReduce<Reduce::kSum>(ctx, axis_.rows(), axis_.classes,
                              HingeLossTerm<T>{Margin<T>(bottom), squared()}, losses.data<double>());
    });
    mean_.Write(ctx, losses, {.samples = axis_.outer}, LossParameter::BATCH_SIZE, 1, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(
          ctx, x.count(),
          HingeLossGrad<T>{Margin<T>(bottom), squared(), top[0]->grad<T>(), mean_.divisor(), x.grad<T>()});
    });
  }

 private:
  bool squared() const { return spec().hinge_loss_param().norm() == HingeLossParameter::L2; }
  template <class T>
  HingeMargin<T> Margin(const Blobs& bottom) const {
    return {{bottom[0]->data<T>(), axis_}, LabelsOf(*bottom[1])};
  }

  ClassAxis axis_;
  LossMean mean_;
};

CREMA_REGISTER_LAYER(HingeLoss, "hinge_loss_param");

}  // namespace
}  // namespace crema
