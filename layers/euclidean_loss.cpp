// EuclideanLoss: half the squared distance of two bottoms, as a mean over the samples of the global batch.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T>
struct SquaredDifference {
  const T *a, *b;
  int64_t dim;  // numbers per sample
  CREMA_HD double operator()(int64_t n, int64_t k) const {
    const double difference = static_cast<double>(a[n * dim + k]) - static_cast<double>(b[n * dim + k]);
    return difference * difference;
  }
};

template <class T>
struct DifferenceGrad {
  const T *x, *other, *loss_weight;
  const double* samples;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] = static_cast<T>(static_cast<double>(loss_weight[0]) / *samples) * (x[i] - other[i]);
  }
};

struct EuclideanLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }  // the bottoms' shapes may differ
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &a = *bottom[0], &b = *bottom[1];
    Check(a.num() == b.num() && a.count() == b.count() && a.dtype() == b.dtype(), "bottoms '", a.name(),
          "' (", ToString(a.shape()), " ", NameOf(a.dtype()), ") and '", b.name(), "' (", ToString(b.shape()),
          " ", NameOf(b.dtype()), ") found where two of one size were expected");
    top[0]->Reshape(a.dtype(), {});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &a = *bottom[0], &b = *bottom[1];
    const int64_t samples = a.num(), dim = a.axes() > 1 ? a.count(1) : 1;
    Tensor squares(*ctx.device, DType::kF64, {samples});
    ForReal(a.dtype(), [&]<class T>() {
      RowReduce<Reduce::kSum>(ctx, samples, dim, SquaredDifference<T>{a.data<T>(), b.data<T>(), dim},
                              squares.data<double>());
    });
    mean_.Write(ctx, squares, {.samples = samples}, LossParameter::BATCH_SIZE, 0.5, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      for (size_t k = 0; k < 2; ++k) {
        Blob &x = *bottom[k], &other = *bottom[1 - k];
        if (!x.needs_grad()) continue;
        ForEach(
            ctx, x.count(),
            DifferenceGrad<T>{x.data<T>(), other.data<T>(), top[0]->grad<T>(), mean_.divisor(), x.grad<T>()});
      }
    });
  }

 private:
  LossMean mean_;
};

CREMA_REGISTER_LAYER(EuclideanLoss);

}  // namespace
}  // namespace crema
