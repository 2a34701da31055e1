// ContrastiveLoss: half the mean over the global batch of d^2 for like pairs and max(margin - d, 0)^2 for
// unlike ones, d the distance of the first two bottoms; the third is not 0 where a pair is alike (Hadsell et
// al., CVPR 2006).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T>
struct PairSquare {
  const T *a, *b;
  int64_t dim;
  CREMA_HD double operator()(int64_t n, int64_t k) const {
    const double difference = static_cast<double>(a[n * dim + k]) - static_cast<double>(b[n * dim + k]);
    return difference * difference;
  }
};

struct PairLoss {
  const double* square;  // of each pair's distance
  Labels alike;
  double margin;
  bool legacy;
  double *loss, *pull;  // pull: half the loss has the gradient pull * (a - b) by a
  CREMA_HD void operator()(int64_t n) const {
    const double s = square[n];
    if (alike[n] != 0) {
      loss[n] = s, pull[n] = 1;
    } else if (legacy) {
      loss[n] = s < margin ? margin - s : 0, pull[n] = s < margin ? -1 : 0;
    } else {
      const double distance = sqrt(s), missing = margin - distance;
      // As in Caffe, a little is added to the distance that it divides by.
      loss[n] = missing > 0 ? missing * missing : 0, pull[n] = missing > 0 ? -missing / (distance + 1e-4) : 0;
    }
  }
};

template <class T>
struct PairGrad {
  const T *x, *other, *loss_weight;
  const double *pull, *divisor;
  int64_t dim;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] =
        static_cast<T>(static_cast<double>(loss_weight[0]) / *divisor * pull[i / dim]) * (x[i] - other[i]);
  }
};

struct ContrastiveLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {3, 3, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index < 2; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &a = *bottom[0], &b = *bottom[1], &alike = *bottom[2];
    Check(a.axes() >= 2 && a.count(1) == a.channels(), "bottom '", a.name(), "' is ", ToString(a.shape()),
          " where vectors N x C were expected");
    Check(a.num() == b.num() && a.count() == b.count() && a.dtype() == b.dtype(), "bottoms '", a.name(),
          "' (", ToString(a.shape()), " ", NameOf(a.dtype()), ") and '", b.name(), "' (", ToString(b.shape()),
          " ", NameOf(b.dtype()), ") found where two of one size were expected");
    Check(alike.count() == a.num(), "bottom '", alike.name(), "' has ", alike.count(), " numbers where ",
          a.num(), " were expected: one for each pair");
    top[0]->Reshape(a.dtype(), {});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &a = *bottom[0], &b = *bottom[1];
    Tensor squares(*ctx.device, DType::kF64, {a.num()});
    ForReal(a.dtype(), [&]<class T>() {
      RowReduce<Reduce::kSum>(ctx, a.num(), a.count(1), PairSquare<T>{a.data<T>(), b.data<T>(), a.count(1)},
                              squares.data<double>());
    });
    Tensor losses(*ctx.device, DType::kF64, {a.num()});
    pull_ = Tensor(*ctx.device, DType::kF64, {a.num()});
    ForEach(ctx, a.num(),
            PairLoss{squares.data<double>(), LabelsOf(*bottom[2]), static_cast<double>(options().margin()),
                     options().legacy_version(), losses.data<double>(), pull_.data<double>()});
    mean_.Write(ctx, losses, {.samples = a.num()}, LossParameter::BATCH_SIZE, 0.5, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      for (size_t k = 0; k < 2; ++k) {
        Blob &x = *bottom[k], &other = *bottom[1 - k];
        if (!x.needs_grad()) continue;
        ForEach(ctx, x.count(),
                PairGrad<T>{x.data<T>(), other.data<T>(), top[0]->grad<T>(), pull_.data<double>(),
                            mean_.divisor(), x.count(1), x.grad<T>()});
      }
    });
  }

 private:
  const ContrastiveLossParameter& options() const { return spec().contrastive_loss_param(); }

  Tensor pull_;  // of each pair, of the last Forward
  LossMean mean_;
};

CREMA_REGISTER_LAYER(ContrastiveLoss, "contrastive_loss_param");

}  // namespace
}  // namespace crema
