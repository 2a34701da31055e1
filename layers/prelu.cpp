// PReLU: y = x > 0 ? x : a[c] x, one learnt slope a per channel or one for all (He et al., arXiv 1502.01852).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct PReLUForward {
  const T *x, *a;
  T* y;
  int64_t step;  // 1, or 0 where all channels share a[0]
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T below = a[c * step] * x[i];  // loaded on both sides, so that the loop becomes vector code
    y[i] = x[i] > 0 ? x[i] : below;
  }
};

template <class T>
struct PReLUBottomGrad {
  const T *x, *a, *dy;
  T* dx;
  int64_t step;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const T below = a[c * step] * dy[i];
    dx[i] = x[i] > 0 ? dy[i] : below;
  }
};

template <class T>
struct PReLUSlopeTerm {
  const T *x, *dy;
  CREMA_HD T operator()(int64_t i, int64_t) const {
    const T term = dy[i] * x[i];
    return x[i] > 0 ? T(0) : term;
  }
};

template <class T>
struct PReLUSharedTerm {  // over all elements, as one row
  PReLUSlopeTerm<T> term;
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
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const PReLUParameter& options = spec().prelu_param();
    Check(bottom[0]->axes() >= 2, "bottom '", bottom[0]->name(), "' of shape ", ToString(bottom[0]->shape()),
          " found where N x C x ... was expected");
    const Shape shape = options.channel_shared() ? Shape{} : Shape{bottom[0]->channels()};
    AddParam(0, bottom[0]->dtype(), shape, options.has_filler() ? options.filler() : ConstantFiller(0.25f));
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.channel(), PReLUForward<T>{x.data<T>(), param(0).data<T>(), y.data<T>(), step()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      if (param(0).needs_grad()) SlopeGrad<T>(ctx, x, y);
      if (!x.needs_grad()) return;
      ForEach(ctx, x.channel(),
              PReLUBottomGrad<T>{x.data<T>(), param(0).data<T>(), y.grad<T>(), x.grad<T>(), step()});
    });
  }

 private:
  int64_t step() const { return spec().prelu_param().channel_shared() ? 0 : 1; }

  template <class T>
  void SlopeGrad(const Context& ctx, Blob& x, Blob& y) {
    const PReLUSlopeTerm<T> term{x.data<T>(), y.grad<T>()};
    T* grad = param(0).grad.template data<T>();
    if (step() == 1) {
      ColumnReduce(ctx, x.channel(), term, grad);
      return;
    }
    Tensor sum(*ctx.device, x.dtype(), {1});
    RowReduce<Reduce::kSum>(ctx, 1, x.count(), PReLUSharedTerm<T>{term}, sum.data<T>());
    ForEach(ctx, 1, PReLUAddSum<T>{grad, sum.data<T>()});
  }
};

CREMA_REGISTER_LAYER(PReLU, "prelu_param");

}  // namespace
}  // namespace crema
