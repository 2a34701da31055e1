// Floor 4. Layers that change the score of each sample's own class and hand the other scores through. Called
// by LabelSpecificAdd, CosinAddm and CombinedMargin.
#pragma once

#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"

namespace crema {

template <class T, class Rule>
struct OwnScoreForward {
  const T* x;
  Labels label;
  int64_t classes;
  Rule rule;
  T* y;
  CREMA_HD void operator()(int64_t i) const {
    const bool own = label[i / classes] == i % classes;
    y[i] = own ? static_cast<T>(rule.Value(static_cast<double>(x[i]))) : x[i];
  }
};

template <class T, class Rule>
struct OwnScoreGrad {
  const T *x, *dy;
  Labels label;
  int64_t classes;
  Rule rule;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const bool own = label[i / classes] == i % classes;
    dx[i] = own ? static_cast<T>(rule.Slope(static_cast<double>(x[i]))) * dy[i] : dy[i];
  }
};

// Bottoms: scores [N, classes], labels [N]. Rule: an aggregate with
//   CREMA_HD double Value(double score) const   what an own score becomes
//   CREMA_HD double Slope(double score) const   what its gradient is multiplied by
template <class Rule>
class OwnScoreLayer : public Layer {
 public:
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() >= 2 && x.count() > 0, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " found where scores N x classes were expected");
    Check(bottom[1]->count() == x.num(), "bottom '", bottom[1]->name(), "' has ", bottom[1]->count(),
          " labels for ", x.num(), " samples");
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    if (!Applies()) {
      y.data().CopyFrom(x.data());
      return;
    }
    CheckedLabels(*this, *bottom[1], {x.num(), x.count(1), 1}, Unlabelled());
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(
          ctx, x.count(),
          OwnScoreForward<T, Rule>{x.data<T>(), LabelsOf(*bottom[1]), x.count(1), RuleAt(ctx), y.data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    if (!x.needs_grad()) return;
    if (!Applies()) {
      x.grad().CopyFrom(y.grad());
      return;
    }
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(),
              OwnScoreGrad<T, Rule>{x.data<T>(), y.grad<T>(), LabelsOf(*bottom[1]), x.count(1), RuleAt(ctx),
                                    x.grad<T>()});
    });
  }

 protected:
  virtual Rule RuleAt(const Context& ctx) const = 0;
  virtual bool Applies() const { return phase() == TRAIN; }
  // The label of samples without a class of their own, where there may be some.
  virtual std::optional<int64_t> Unlabelled() const { return std::nullopt; }
};

}  // namespace crema
