// InnerProduct: y = x W^T + b over the axes from `axis` on, taken as one. W is learnt or the second bottom.
// With normalize (happynear/caffe-windows), the rows of a learnt W are divided by their lengths in place in
// each Forward, and W's gradient is dy^T x, as if they were not. On a bottom of 16 bits it multiplies with W
// and dy rounded to that type; sums, and with them y, are f32.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/cast.hpp"
#include "net/gradient_term.hpp"
#include "net/unit_rows.hpp"

namespace crema {
namespace {

template <class T>
struct InnerProductBias {
  T* y;
  const T* bias;
  int64_t outputs;
  CREMA_HD void operator()(int64_t i) const { y[i] += bias[i % outputs]; }
};

struct InnerProduct final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 2, 1, 1}; }
  Bits16 bits16() const override { return spec().bottom_size() > 1 ? Bits16::kNo : Bits16::kWants; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  int64_t MultiplyAdds(const Blobs&, const Blobs&) const override { return samples_ * inputs_ * outputs_; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const InnerProductParameter& options = spec().inner_product_param();
    const Blob& x = *bottom[0];
    const int64_t axis = x.Axis(options.axis());
    samples_ = x.count(0, axis), inputs_ = x.count(axis);
    const bool from_bottom = bottom.size() > 1;
    outputs_ = from_bottom && !options.has_num_output() ? bottom[1]->count() / std::max<int64_t>(inputs_, 1)
                                                        : options.num_output();
    Check(outputs_ > 0, "num_output is missing or 0");
    const Shape weight = options.transpose() ? Shape{inputs_, outputs_} : Shape{outputs_, inputs_};
    Check(
        !options.normalize() || !(options.transpose() || from_bottom),
        "normalize is for a learnt weight whose rows are the outputs, without transpose and without a second "
        "bottom");
    if (from_bottom) {
      Check(bottom[1]->shape() == weight && bottom[1]->dtype() == x.dtype(), "the weight '",
            bottom[1]->name(), "' is ", ToString(bottom[1]->shape()), " ", NameOf(bottom[1]->dtype()),
            "; expected ", ToString(weight), " ", NameOf(x.dtype()));
    } else {
      AddParam(0, RealOf(x.dtype()), weight, options.weight_filler());
    }
    if (options.bias_term())
      AddParam(from_bottom ? 0 : 1, RealOf(x.dtype()), {outputs_}, options.bias_filler());
    Shape shape(x.shape().begin(), x.shape().begin() + axis);
    shape.push_back(outputs_);
    top[0]->Reshape(RealOf(x.dtype()), shape);
  }

  Workspace WorkspaceFor(const Context&, const Blobs& bottom, const Blobs& top) const override {
    if (!Has16Bits(bottom[0]->dtype())) return {};
    const int64_t bytes = SizeOf(bottom[0]->dtype());
    return {.kept = {{"weights in 16 bits", inputs_ * outputs_ * bytes}},
            .scratch = top[0]->needs_grad() ? samples_ * outputs_ * bytes : 0};
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const bool transposed = spec().inner_product_param().transpose();
    GemmShape product{false, !transposed, samples_, outputs_, inputs_, 0, 0, 0};
    Blob& y = *top[0];
    if (spec().inner_product_param().normalize()) MakeRowsUnit(ctx, &param(0).value);
    const Blob& x = *bottom[0];
    if (Has16Bits(x.dtype())) {
      if (weight_in_16_bits_.empty()) weight_in_16_bits_ = Tensor(*ctx.device, x.dtype(), param(0).shape);
      Cast(ctx, param(0).value, 1, &weight_in_16_bits_);
    }
    ctx.device->Gemm(x.dtype(), product, 1, x.data().raw(), Weight(bottom).raw(), 0, y.data().raw());
    if (!bias()) return;
    ForReal(y.dtype(), [&]<class T>() {
      ForEach(ctx, y.count(), InnerProductBias<T>{y.data<T>(), bias()->data<T>(), outputs_});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    const bool transposed = spec().inner_product_param().transpose();
    Blob &x = *bottom[0], &y = *top[0];
    const bool from_bottom = bottom.size() > 1;
    Tensor grad_in_16_bits;  // times ctx.grad_scale
    if (Has16Bits(x.dtype())) {
      grad_in_16_bits = Tensor(*ctx.device, x.dtype(), y.shape());
      Cast(ctx, y.grad(), ctx.grad_scale, &grad_in_16_bits);
    }
    const void* dy = grad_in_16_bits.empty() ? y.grad().raw() : grad_in_16_bits.raw();
    if (from_bottom ? bottom[1]->needs_grad() : param(0).needs_grad()) {
      // A bottom's gradient is written, a weight's is added to.
      void* grad = from_bottom ? bottom[1]->grad().raw() : param(0).grad.raw();
      const double keep = from_bottom ? 0 : 1, factor = ParamGradFactor(ctx, x);
      if (transposed) {
        GemmShape product{true, false, inputs_, outputs_, samples_, 0, 0, 0};
        ctx.device->Gemm(x.dtype(), product, factor, x.data().raw(), dy, keep, grad);
      } else {
        GemmShape product{true, false, outputs_, inputs_, samples_, 0, 0, 0};
        ctx.device->Gemm(x.dtype(), product, factor, dy, x.data().raw(), keep, grad);
      }
    }
    if (bias() && bias()->needs_grad()) {
      ForReal(y.dtype(), [&]<class T>() {
        const Channel columns{samples_, 1, 1, outputs_};
        ColumnReduce(ctx, columns, GradientTerm<T, T>{y.grad<T>(), 1}, bias()->grad.template data<T>());
      });
    }
    if (x.needs_grad()) {
      GemmShape product{false, transposed, samples_, inputs_, outputs_, 0, 0, 0};
      product.narrow_c = true;
      ctx.device->Gemm(x.dtype(), product, 1, dy, Weight(bottom).raw(), 0, x.grad().raw());
    }
  }

 private:
  // As the products take it.
  const Tensor& Weight(const Blobs& bottom) {
    if (Has16Bits(bottom[0]->dtype())) return weight_in_16_bits_;
    return bottom.size() > 1 ? bottom[1]->data() : param(0).value;
  }
  Param* bias() { return spec().inner_product_param().bias_term() ? params().back().get() : nullptr; }

  int64_t samples_ = 0, inputs_ = 0, outputs_ = 0;
  Tensor weight_in_16_bits_;  // of the last Forward
};

CREMA_REGISTER_LAYER(InnerProduct, "inner_product_param");

}  // namespace
}  // namespace crema
