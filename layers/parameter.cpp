// Parameter: a weight of the given shape as a top; 0 at the start unless blob_filler says otherwise.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct ParameterAddGrad {
  const T* dy;
  T* grad;
  CREMA_HD void operator()(int64_t i) const { grad[i] += dy[i]; }
};

struct Parameter final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {0, 0, 1, 1}; }

  void Reshape(const Context& ctx, const Blobs&, const Blobs& top) override {
    const ParameterParameter& options = spec().parameter_param();
    const Shape shape(options.shape().dim().begin(), options.shape().dim().end());
    AddParam(0, ctx.real, shape, options.blob_filler());
    top[0]->Reshape(ctx.real, shape);
  }

  void Forward(const Context&, const Blobs&, const Blobs& top) override {
    top[0]->data().CopyFrom(param(0).value);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs&) override {
    Blob& y = *top[0];
    if (!param(0).needs_grad()) return;
    ForReal(y.dtype(), [&]<class T>() {
      ForEach(ctx, y.count(), ParameterAddGrad<T>{y.grad<T>(), param(0).grad.data<T>()});
    });
  }
};

CREMA_REGISTER_LAYER(Parameter, "parameter_param");

}  // namespace
}  // namespace crema
