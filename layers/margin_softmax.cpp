// MarginSoftmax: softmax cross-entropy over scale * cosines, the own class's less a margin (ArcFace, Deng et
// al., arXiv 1801.07698; CosFace, Wang et al., arXiv 1801.09414).
#include "crema/head.hpp"
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/host_values.hpp"

namespace crema {
namespace {

// The logit of class k of sample r.
template <class T>
struct Logit {
  const T* cosine;  // [samples, classes]
  Labels label;     // [samples], -1 where another rank owns the class
  int64_t classes;
  MarginLogit<T> rule;

  CREMA_HD bool is_own(int64_t r, int64_t k) const { return label[r] == k; }
  CREMA_HD T operator()(int64_t r, int64_t k) const {
    const T x = cosine[r * classes + k];
    return is_own(r, k) ? rule.Own(x) : rule.Other(x);
  }
};

template <class T>
struct Exponential {  // of a logit less the sample's largest
  Logit<T> logit;
  const T* largest;
  CREMA_HD T operator()(int64_t r, int64_t k) const { return exp(logit(r, k) - largest[r]); }
};

template <class T>
struct OwnLogit {
  Logit<T> logit;
  const T* largest;
  T* out;
  CREMA_HD void operator()(int64_t r) const {
    const int64_t own = logit.label[r];
    out[r] = own >= 0 ? logit(r, own) - largest[r] : T(0);
  }
};

template <class T>
struct DivideBy {
  T* x;
  T divisor;
  CREMA_HD void operator()(int64_t i) const { x[i] /= divisor; }
};

template <class T>
struct SampleLoss {
  const T *sum, *own;
  CREMA_HD T operator()(int64_t, int64_t r) const { return log(sum[r]) - own[r]; }
};

template <class T>
struct CosineGrad {
  Logit<T> logit;
  const T *largest, *sum, *loss_weight;
  T* grad;
  double samples;  // of the global batch
  CREMA_HD void operator()(int64_t i) const {
    const int64_t r = i / logit.classes, k = i % logit.classes;
    const bool own = logit.is_own(r, k);
    const T x = logit.cosine[i], slope = own ? logit.rule.OwnSlope(x) : logit.rule.OtherSlope(x);
    const T p = exp(logit(r, k) - largest[r]) / sum[r];
    grad[i] = *loss_weight / static_cast<T>(samples) * (p - (own ? 1 : 0)) * slope;
  }
};

struct MarginSoftmax final : Layer {
  using Layer::Layer;

  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }
  bool TakesClassPlacement() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const MarginSoftmaxParameter& options = spec().margin_softmax_param();
    Check(options.scale() > 0, "scale is ", options.scale(), "; expected a positive value");
    Check(options.m1() > 0 && options.m2() >= 0 && options.m3() >= 0, "margins m1 ", options.m1(), ", m2 ",
          options.m2(), ", m3 ", options.m3(), "; expected m1 > 0, m2 >= 0, m3 >= 0");
    Check(bottom[0]->axes() >= 1 && bottom[1]->count() == bottom[0]->num(), "bottom '", bottom[1]->name(),
          "' has ", bottom[1]->count(), " labels for ", bottom[0]->num(), " samples");
    Check(bottom[0]->placement() == bottom[1]->placement(), "bottom '", bottom[0]->name(),
          "' and its labels '", bottom[1]->name(),
          "' are spread differently over the ranks; with DistPartialFC both come from it");
    top[0]->Reshape(bottom[0]->dtype(), {});
  }

  std::vector<Collective> Collectives(const Context&, const Blobs& bottom, const Blobs&) const override {
    if (bottom[0]->placement() != Placement::kClass) return {};
    return {{Collective::Kind::kAllReduce, "softmax statistics",
             3 * bottom[0]->num() * SizeOf(bottom[0]->dtype())}};
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const int64_t samples = bottom[0]->num();
    const bool by_class = bottom[0]->placement() == Placement::kClass;
    if (!by_class) CheckLabels(*bottom[0], *bottom[1]);
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      const Logit<T> logit = MakeLogit<T>(*bottom[0], *bottom[1]);
      largest_ = Tensor(*ctx.device, DTypeOf<T>(), {samples});
      sum_and_own_ = Tensor(*ctx.device, DTypeOf<T>(), {2, samples});
      T *largest = largest_.data<T>(), *sum = sum_and_own_.data<T>(), *own = sum + samples;
      if (logit.classes > 0) {
        RowReduce<Reduce::kMax>(ctx, samples, logit.classes, logit, largest);
      } else {
        ForEach(ctx, samples, SetTo<T>{largest, static_cast<T>(-1e30)});
      }
      if (by_class) ctx.comm->AllReduce(&largest_, Reduce::kMax);
      RowReduce<Reduce::kSum>(ctx, samples, logit.classes, Exponential<T>{logit, largest}, sum);
      ForEach(ctx, samples, OwnLogit<T>{logit, largest, own});
      if (by_class) ctx.comm->AllReduce(&sum_and_own_, Reduce::kSum);

      T* loss = top[0]->data<T>();
      RowReduce<Reduce::kSum>(ctx, 1, samples, SampleLoss<T>{sum, own}, loss);
      samples_ = samples;
      if (!by_class) {
        Tensor total = top[0]->data();
        ctx.comm->AllReduce(&total, Reduce::kSum);
        samples_ = 0;
        for (int64_t batch : ctx.comm->AllGatherNumber(samples)) samples_ += batch;
      }
      ForEach(ctx, 1, DivideBy<T>{loss, static_cast<T>(samples_)});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      const T *largest = largest_.data<T>(), *sum = sum_and_own_.data<T>();
      ForEach(ctx, bottom[0]->count(),
              CosineGrad<T>{MakeLogit<T>(*bottom[0], *bottom[1]), largest, sum, top[0]->grad<T>(),
                            bottom[0]->grad<T>(), static_cast<double>(samples_)});
    });
  }

 private:
  template <class T>
  Logit<T> MakeLogit(const Blob& cosine, const Blob& label) const {
    return {cosine.data().data<T>(), LabelsOf(label), cosine.count(1),
            MarginLogitOf<T>(spec().margin_softmax_param())};
  }

  // DistPartialFC has checked its own.
  void CheckLabels(const Blob& scores, const Blob& label) const {
    const int64_t classes = scores.count(1);
    const auto check = [&]<class T>(const std::vector<T>& labels) {
      for (size_t i = 0; i < labels.size(); ++i) {
        Check(labels[i] >= 0 && labels[i] < static_cast<T>(classes), "sample ", i, " has label ", labels[i],
              "; expected 0 to ", classes - 1);
      }
    };
    if (label.dtype() == DType::kI64) {
      check(HostLabels(label));
    } else {
      ForReal(label.dtype(), [&]<class T>() { check(label.data().ToHost<T>()); });
    }
  }

  Tensor largest_, sum_and_own_;  // [samples]: largest logit; [2, samples]: sum of exponentials, own logit
  int64_t samples_ = 0;           // of the global batch
};

CREMA_REGISTER_LAYER(MarginSoftmax, "margin_softmax_param");

}  // namespace
}  // namespace crema
