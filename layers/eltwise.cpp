// Eltwise: product, weighted sum or maximum of bottoms of one shape, element by element.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Two bottoms, or what the top holds already and the next bottom.
template <class T, class S>
struct EltwiseSum {
  const S *a, *b;
  T coeff_a, coeff_b;
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    y[i] = static_cast<S>(coeff_a * static_cast<T>(a[i]) + coeff_b * static_cast<T>(b[i]));
  }
};

template <class T, class S>
struct EltwiseProduct {
  const S *a, *b;
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    y[i] = static_cast<S>(static_cast<T>(a[i]) * static_cast<T>(b[i]));
  }
};

template <class T, class S>
struct EltwiseMaximum {
  const S *a, *b;
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    y[i] = static_cast<T>(a[i]) > static_cast<T>(b[i]) ? a[i] : b[i];
  }
};

template <class T, class S>
struct EltwiseSumGrad {
  const S* dy;
  T coeff;
  S* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = static_cast<S>(coeff * static_cast<T>(dy[i])); }
};

template <class S>
struct EltwiseCopy {
  const S* x;
  S* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i]; }
};

template <class T, class S>
struct EltwiseTimes {
  const S* x;
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    y[i] = static_cast<S>(static_cast<T>(y[i]) * static_cast<T>(x[i]));
  }
};

template <class T, class S>
struct EltwiseQuotientGrad {  // dy * (product of all) / x: quick, but 0 / 0 where x is 0
  const S *x, *y, *dy;
  S* dx;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] = static_cast<S>(static_cast<T>(dy[i]) * (static_cast<T>(y[i]) / static_cast<T>(x[i])));
  }
};

template <class T, class S>
struct EltwiseMaxStart {
  const S *x, *y, *dy;
  S* dx;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] = static_cast<T>(x[i]) == static_cast<T>(y[i]) ? dy[i] : S(T(0));
  }
};

template <class T, class S>
struct EltwiseMaxTaken {  // a later bottom has the same value and with it the gradient
  const S *later, *y;
  S* dx;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] = static_cast<T>(later[i]) == static_cast<T>(y[i]) ? S(T(0)) : dx[i];
  }
};

struct Eltwise final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, -1, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override {
    if (options().operation() == EltwiseParameter::SUM) return Reads::kNothing;
    return options().operation() == EltwiseParameter::MAX || !options().stable_prod_grad() ? Reads::kBoth
                                                                                           : Reads::kBottom;
  }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const int coeffs = options().coeff_size();
    Check(coeffs == 0 || coeffs == static_cast<int>(bottom.size()), "it has ", coeffs,
          " factors (coeff) for ", bottom.size(), " bottoms; expected one each or none");
    Check(coeffs == 0 || options().operation() == EltwiseParameter::SUM,
          "coeff is given, which belongs to operation SUM");
    for (const Blob* x : bottom) {
      Check(x->shape() == bottom[0]->shape() && x->dtype() == bottom[0]->dtype(), "bottom '", x->name(),
            "' is ", ToString(x->shape()), " ", NameOf(x->dtype()), " where '", bottom[0]->name(), "' is ",
            ToString(bottom[0]->shape()), " ", NameOf(bottom[0]->dtype()), "; expected the same");
    }
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ForBlob(top[0]->dtype(), [&]<class T, class S>() {
      S* y = top[0]->data<S>();
      for (size_t k = 1; k < bottom.size(); ++k) {
        const S *a = k == 1 ? bottom[0]->data<S>() : y, *b = bottom[k]->data<S>();
        if (options().operation() == EltwiseParameter::SUM) {
          const T coeff_a = k == 1 ? static_cast<T>(coeff(0)) : T(1);
          ForEach(ctx, top[0]->count(), EltwiseSum<T, S>{a, b, coeff_a, static_cast<T>(coeff(k)), y});
        } else if (options().operation() == EltwiseParameter::PROD) {
          ForEach(ctx, top[0]->count(), EltwiseProduct<T, S>{a, b, y});
        } else {
          ForEach(ctx, top[0]->count(), EltwiseMaximum<T, S>{a, b, y});
        }
      }
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForBlob(top[0]->dtype(), [&]<class T, class S>() {
      for (size_t k = 0; k < bottom.size(); ++k) {
        if (bottom[k]->needs_grad()) BottomGrad<T, S>(ctx, *top[0], bottom, k);
      }
    });
  }

 private:
  const EltwiseParameter& options() const { return spec().eltwise_param(); }
  float coeff(size_t k) const {
    return options().coeff_size() == 0 ? 1 : options().coeff(static_cast<int>(k));
  }

  template <class T, class S>
  void BottomGrad(const Context& ctx, Blob& y, const Blobs& bottom, size_t k) {
    const int64_t count = y.count();
    const S* dy = y.grad<S>();
    S* dx = bottom[k]->grad<S>();
    if (options().operation() == EltwiseParameter::SUM) {
      ForEach(ctx, count, EltwiseSumGrad<T, S>{dy, static_cast<T>(coeff(k)), dx});
    } else if (options().operation() == EltwiseParameter::MAX) {
      ForEach(ctx, count, EltwiseMaxStart<T, S>{bottom[k]->data<S>(), y.data<S>(), dy, dx});
      for (size_t j = k + 1; j < bottom.size(); ++j) {
        ForEach(ctx, count, EltwiseMaxTaken<T, S>{bottom[j]->data<S>(), y.data<S>(), dx});
      }
    } else if (options().stable_prod_grad()) {
      ForEach(ctx, count, EltwiseCopy<S>{dy, dx});
      for (size_t j = 0; j < bottom.size(); ++j) {
        if (j != k) ForEach(ctx, count, EltwiseTimes<T, S>{bottom[j]->data<S>(), dx});
      }
    } else {
      ForEach(ctx, count, EltwiseQuotientGrad<T, S>{bottom[k]->data<S>(), y.data<S>(), dy, dx});
    }
  }
};

CREMA_REGISTER_LAYER(Eltwise, "eltwise_param");

}  // namespace
}  // namespace crema
