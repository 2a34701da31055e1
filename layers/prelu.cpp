// PReLU: y = x > 0 ? x : a[c] x, one learnt slope a per channel or one for all (He et al., arXiv 1502.01852).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T, class S>
struct PReLUForward {
  const S* x;
  const T* a;
  S* y;
  int64_t step;  // 1, or 0 where all channels share a[0]
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T value = static_cast<T>(x[i]), below = a[c * step] * value;  // loaded on both sides: vector code
    y[i] = static_cast<S>(value > 0 ? value : below);
  }
};

template <class T, class S>
struct PReLUBottomGrad {
  const S* x;
  const T* a;
  const S* dy;
  S* dx;
  int64_t step;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T grad = static_cast<T>(dy[i]), below = a[c * step] * grad;
    dx[i] = static_cast<S>(static_cast<T>(x[i]) > 0 ? grad : below);
  }
};

template <class T, class S>
struct PReLUSlopeTerm {
  const S *x, *dy;
  T factor;
  CREMA_HD T operator()(int64_t i, int64_t) const {
    const T value = static_cast<T>(x[i]), term = factor * static_cast<T>(dy[i]) * value;
    return value > 0 ? T(0) : term;
  }
};

template <class T, class S>
struct PReLUSharedTerm {  // over all elements, as one row
  PReLUSlopeTerm<T, S> term;
  CREMA_HD T operator()(int64_t, int64_t i) const { return term(i, 0); }
};

template <class T>
struct PReLUAddSum {
  T* da;
  const T* sum;
  CREMA_HD void operator()(int64_t) const { da[0] += sum[0]; }
};

struct PReLU final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const PReLUParameter& options = spec().prelu_param();
    Check(bottom[0]->axes() >= 2, "bottom '", bottom[0]->name(), "' of shape ", ToString(bottom[0]->shape()),
          " found where N x C x ... was expected");
    const Shape shape = options.channel_shared() ? Shape{} : Shape{bottom[0]->channels()};
    AddParam(0, RealOf(bottom[0]->dtype()), shape,
             options.has_filler() ? options.filler() : ConstantFiller(0.25f));
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.channel(), PReLUForward<T, S>{x.data<S>(), param(0).data<T>(), y.data<S>(), step()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      if (param(0).needs_grad()) SlopeGrad<T, S>(ctx, x, y);
      if (!x.needs_grad()) return;
      ForEach(ctx, x.channel(),
              PReLUBottomGrad<T, S>{x.data<S>(), param(0).data<T>(), y.grad<S>(), x.grad<S>(), step()});
    });
  }

 private:
  int64_t step() const { return spec().prelu_param().channel_shared() ? 0 : 1; }

  template <class T, class S>
  void SlopeGrad(const Context& ctx, Blob& x, Blob& y) {
    const PReLUSlopeTerm<T, S> term{x.data<S>(), y.grad<S>(), static_cast<T>(ParamGradFactor(ctx, y))};
    T* grad = param(0).grad.template data<T>();
    if (step() == 1) {
      ColumnReduce(ctx, x.channel(), term, grad);
      return;
    }
    Tensor sum(*ctx.device, DTypeOf<T>(), {1});
    RowReduce<Reduce::kSum>(ctx, 1, x.count(), PReLUSharedTerm<T, S>{term}, sum.data<T>());
    ForEach(ctx, 1, PReLUAddSum<T>{grad, sum.data<T>()});
  }
};

CREMA_REGISTER_LAYER(PReLU, "prelu_param");

}  // namespace
}  // namespace crema
