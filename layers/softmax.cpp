// Softmax: exp(x) / sum of exp(x) along an axis.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"

namespace crema {
namespace {

template <class T>
struct SoftmaxGradTerm {
  const T *y, *dy;
  ClassAxis axis;
  CREMA_HD T operator()(int64_t row, int64_t k) const { return y[axis.at(row, k)] * dy[axis.at(row, k)]; }
};

template <class T>
struct SoftmaxBottomGrad {
  const T *y, *dy, *sum;  // sum of y * dy of each row
  T* dx;
  ClassAxis axis;
  CREMA_HD void operator()(int64_t i) const { dx[i] = y[i] * (dy[i] - sum[axis.row(i)]); }
};

struct Softmax final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kTop; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    axis_ = ClassAxisOf(*bottom[0], spec().softmax_param().axis());
    Check(axis_.classes > 0, "bottom '", bottom[0]->name(), "' of shape ", ToString(bottom[0]->shape()),
          " has no classes");
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      const ScoreAt<T> score{x.data<T>(), axis_};
      const Tensor statistics = SoftmaxStatistics(ctx, score);
      const T* largest = statistics.data<T>();
      ForEach(ctx, x.count(), WriteSoftmax<T>{{score, largest, largest + axis_.rows()}, y.data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      Tensor sums(*ctx.device, DTypeOf<T>(), {axis_.rows()});
      T* sum = sums.data<T>();
      RowReduce<Reduce::kSum>(ctx, axis_.rows(), axis_.classes,
                              SoftmaxGradTerm<T>{y.data<T>(), y.grad<T>(), axis_}, sum);
      ForEach(ctx, x.count(), SoftmaxBottomGrad<T>{y.data<T>(), y.grad<T>(), sum, x.grad<T>(), axis_});
    });
  }

 private:
  ClassAxis axis_;
};

CREMA_REGISTER_LAYER(Softmax, "softmax_param");

}  // namespace
}  // namespace crema
