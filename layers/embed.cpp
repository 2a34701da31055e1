// Embed: each number of the bottom replaced by that row of a learnt table, plus a bias.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/picked_rows.hpp"

namespace crema {
namespace {

template <class T>
struct EmbedBias {
  T* y;
  const T* bias;
  int64_t outputs;
  CREMA_HD void operator()(int64_t i) const { y[i] += bias[i % outputs]; }
};

template <class T>
struct EmbedBiasTerm {
  const T* dy;
  CREMA_HD T operator()(int64_t i, int64_t) const { return dy[i]; }
};

struct Embed final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int) const override { return false; }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const EmbedParameter& options = spec().embed_param();
    Check(options.num_output() > 0, "num_output is missing or 0");
    Check(options.input_dim() > 0, "input_dim is missing or 0");
    AddParam(0, ctx.real, {options.input_dim(), options.num_output()}, options.weight_filler());
    if (options.bias_term()) AddParam(1, ctx.real, {options.num_output()}, options.bias_filler());
    Shape shape = bottom[0]->shape();
    shape.push_back(options.num_output());
    top[0]->Reshape(ctx.real, shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob& y = *top[0];
    picked_ = PickedRows(ctx, RowNumbers(*this, *bottom[0], param(0).row_count()));
    picked_.Pick(ctx, param(0).value, outputs(), &y.data());
    if (params().size() == 1) return;
    ForReal(y.dtype(), [&]<class T>() {
      ForEach(ctx, y.count(), EmbedBias<T>{y.data<T>(), param(1).data<T>(), outputs()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs&) override {
    Blob& y = *top[0];
    if (param(0).needs_grad()) picked_.AddBack(ctx, y.grad(), outputs(), &param(0).grad);
    if (params().size() == 1 || !param(1).needs_grad()) return;
    ForReal(y.dtype(), [&]<class T>() {
      const Channel columns{picked_.count(), 1, 1, outputs()};
      ColumnReduce(ctx, columns, EmbedBiasTerm<T>{y.grad<T>()}, param(1).grad.data<T>());
    });
  }

 private:
  int64_t outputs() const { return spec().embed_param().num_output(); }

  PickedRows picked_;  // of the last Forward
};

CREMA_REGISTER_LAYER(Embed, "embed_param");

}  // namespace
}  // namespace crema
