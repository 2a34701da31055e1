// InnerProduct: y = x W^T + b over the axes from `axis` on, taken as one.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct InnerProductBias {
  T* y;
  const T* bias;
  int64_t outputs;
  CREMA_HD void operator()(int64_t i) const { y[i] += bias[i % outputs]; }
};

template <class T>
struct InnerProductBiasTerm {
  const T* dy;
  CREMA_HD T operator()(int64_t i, int64_t) const { return dy[i]; }
};

struct InnerProduct final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  int64_t MultiplyAdds(const Blobs&, const Blobs&) const override { return samples_ * inputs_ * outputs_; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const InnerProductParameter& options = spec().inner_product_param();
    const Blob& x = *bottom[0];
    const int64_t axis = x.Axis(options.axis());
    outputs_ = options.num_output();
    Check(outputs_ > 0, "num_output is missing or 0");
    samples_ = x.count(0, axis), inputs_ = x.count(axis);
    const Shape weight = options.transpose() ? Shape{inputs_, outputs_} : Shape{outputs_, inputs_};
    AddParam(0, x.dtype(), weight, options.weight_filler());
    if (options.bias_term()) AddParam(1, x.dtype(), {outputs_}, options.bias_filler());
    Shape shape(x.shape().begin(), x.shape().begin() + axis);
    shape.push_back(outputs_);
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const bool transposed = spec().inner_product_param().transpose();
    GemmShape product{false, !transposed, samples_, outputs_, inputs_, 0, 0, 0};
    Blob& y = *top[0];
    ctx.device->Gemm(y.dtype(), product, 1, bottom[0]->data().raw(), param(0).value.raw(), 0, y.data().raw());
    if (params().size() == 1) return;
    ForReal(y.dtype(), [&]<class T>() {
      ForEach(ctx, y.count(), InnerProductBias<T>{y.data<T>(), param(1).data<T>(), outputs_});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    const bool transposed = spec().inner_product_param().transpose();
    Blob &x = *bottom[0], &y = *top[0];
    if (param(0).needs_grad()) {
      if (transposed) {
        GemmShape product{true, false, inputs_, outputs_, samples_, 0, 0, 0};
        ctx.device->Gemm(x.dtype(), product, 1, x.data().raw(), y.grad().raw(), 1, param(0).grad.raw());
      } else {
        GemmShape product{true, false, outputs_, inputs_, samples_, 0, 0, 0};
        ctx.device->Gemm(x.dtype(), product, 1, y.grad().raw(), x.data().raw(), 1, param(0).grad.raw());
      }
    }
    if (params().size() > 1 && param(1).needs_grad()) {
      ForReal(x.dtype(), [&]<class T>() {
        const Channel columns{samples_, 1, 1, outputs_};
        ColumnReduce(ctx, columns, InnerProductBiasTerm<T>{y.grad<T>()}, param(1).grad.data<T>());
      });
    }
    if (x.needs_grad()) {
      GemmShape product{false, transposed, samples_, inputs_, outputs_, 0, 0, 0};
      ctx.device->Gemm(x.dtype(), product, 1, y.grad().raw(), param(0).value.raw(), 0, x.grad().raw());
    }
  }

 private:
  int64_t samples_ = 0, inputs_ = 0, outputs_ = 0;
};

CREMA_REGISTER_LAYER(InnerProduct, "inner_product_param");

}  // namespace
}  // namespace crema
